"""Log records as JSON, one object a line, and the ID of the request that a record belongs to. Imports nothing of ours."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The ID of the request that this task answers."""
_MESSAGE = "message"


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object in one line. `common` has fields for every record, such as the run's ID."""

    def __init__(self, common: dict[str, object] | None = None) -> None:
        super().__init__()
        self._common = {} if common is None else common

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {**self._common, **getattr(record, "fields", {})}
        if event := getattr(record, "event", None):
            fields["event"] = event
        if asked := request_id.get():
            fields["request_id"] = asked
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return format_line(
            datetime.fromtimestamp(record.created, UTC), record.levelname, record.name, record.getMessage(), **fields
        )


def format_line(time: datetime, level: str, logger: str, message: str, **fields: object) -> str:
    """Return a log line as JSON. The key of a source object is its field `object`."""
    if "key" in fields:
        fields["object"] = fields.pop("key")
    told = {
        "time": time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "logger": logger,
    }
    return json.dumps({**told, _MESSAGE: message, **fields}, default=str, ensure_ascii=False)
