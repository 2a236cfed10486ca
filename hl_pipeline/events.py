"""Log events: a name and fields, readable as text in Dagster's run log and as values for a handler (the progress bar)."""

from __future__ import annotations

import logging
from typing import TypeGuard


class EventRecord(logging.LogRecord):
    """A log record made by `emit`."""

    event: str
    fields: dict[str, object]


def emit(logger: logging.Logger, event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log `event`, named in the past tense or as what begins, with its fields."""
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, f"{event} {text}", extra={"event": event, "fields": fields})


def is_event(record: logging.LogRecord) -> TypeGuard[EventRecord]:
    """Whether `emit` made the record."""
    return hasattr(record, "event")
