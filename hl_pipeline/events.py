"""Log events with a name and fields: text in Dagster's run log, and values for handlers such as the progress bar."""

from __future__ import annotations

import logging
from typing import TypeGuard


class EventRecord(logging.LogRecord):
    """A log record made by `emit`."""

    event: str
    fields: dict[str, object]


def emit(logger: logging.Logger, event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields. Its name is in the past tense, or names what begins."""
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, f"{event} {text}", extra={"event": event, "fields": fields})


def is_event(record: logging.LogRecord) -> TypeGuard[EventRecord]:
    """Return whether `emit` made the record."""
    return hasattr(record, "event")
