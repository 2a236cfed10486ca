"""Turns the lines that services print into JSON. Dagster's own lines have a fixed form, which is read here."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from hl_pipeline.events import format_line

_DAGSTER = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}) - (\S+) - ([A-Z]+) - (.*)", re.DOTALL)
_LEVEL = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL|error|warning):\s+(.*)", re.DOTALL)
_FIELDS = {
    "run_id": re.compile(r"\b([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b"),
    "day": re.compile(r"(?:\bday=|^)(\d{4}-\d\d-\d\d)\b"),
    "object": re.compile(r"\bkey=(\S+)"),
}


def as_json_line(service: str, line: str) -> str:
    """Return a line of a service as a JSON object: one that is JSON already only gets the service's name."""
    if line.startswith("{") and (parsed := _parse(line)) is not None:
        return json.dumps({**parsed, "service": service}, ensure_ascii=False)
    time, logger, level, message = datetime.now(UTC), service, "INFO", line
    if dagster := _DAGSTER.match(line):
        stamp, logger, level, message = dagster.groups()
        time = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S %z")
    elif named := _LEVEL.match(line):
        level, message = named[1].upper(), named[2]
    fields = {name: found[1] for name, pattern in _FIELDS.items() if (found := pattern.search(message))}
    return format_line(time, level, logger, message, service=service, **fields)


def is_json_warning(line: str) -> bool:
    """Return whether a line is JSON with the level of a warning or more."""
    parsed = _parse(line) if line.startswith("{") else None
    return parsed is not None and parsed["level"] in ("WARNING", "ERROR", "CRITICAL")


def _parse(line: str) -> dict[str, object] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "level" in parsed else None
