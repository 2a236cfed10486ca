"""Log events with a name and fields: text in Dagster's run log, and values for handlers such as the progress bar."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeGuard

# The API, which imports nothing of hl_pipeline, writes the same lines.
from api.json_log import JsonFormatter, format_line

__all__ = ["EventRecord", "common_fields", "emit", "format_line", "is_event", "json_formatter"]
_common: dict[str, object] = {}


class EventRecord(logging.LogRecord):
    """A log record made by `emit`."""

    event: str
    fields: dict[str, object]


def emit(logger: logging.Logger, event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields. Its name is in the past tense, or names what begins."""
    text = " ".join(f"{name}={value}" for name, value in fields.items())
    logger.log(level, f"{event} {text}", extra={"event": event, "fields": fields})


@contextmanager
def common_fields(**fields: object) -> Generator[None]:
    """Add fields to every JSON line of this process during the block, whatever thread writes it.

    A process has one run at a time.
    """
    _common.update(fields)
    try:
        yield
    finally:
        for name in fields:
            _common.pop(name, None)


def json_formatter() -> logging.Formatter:
    """Return the formatter for HL_LOG_FORMAT=json."""
    return JsonFormatter(_common)


def is_event(record: logging.LogRecord) -> TypeGuard[EventRecord]:
    """Return whether `emit` made the record."""
    return hasattr(record, "event")
