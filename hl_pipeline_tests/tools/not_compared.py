"""The differences between two installations that `compare` allows, each with its reason. Everything else must be equal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

How = Literal["presence", "without time of change", "by its file", "in any order", "left out"]
"""presence: only whether the value is NULL. without time of change: an ETag of a size and a time, as the size. by its file: a
random ID, as the file that has it. in any order: sorted rows and lists. left out: not compared.
"""


@dataclass(frozen=True, slots=True)
class Exemption:
    """How columns of a table (all: `*`), or values in the lake's metadata, are compared if not by value."""

    place: str
    names: tuple[str, ...]
    how: How
    reason: str


_CLOCK = "a clock"
_MTIME = "a directory's ETags have the time of change of the sample's files, which is that of the run that wrote them"

NOT_COMPARED = (
    Exemption("hl.s3_ingest_log", ("fetched_at", "loaded_at", "error_at", "reset_of"), "presence", _CLOCK),
    Exemption("hl.fills_days", ("loaded_at", "thinned_at", "candles_at", "daily_stats_at"), "presence", _CLOCK),
    Exemption("hl.fills_days", ("user_stats_at", "builder_stats_at", "twaps_at"), "presence", _CLOCK),
    Exemption("hl.fills_hours", ("loaded_at", "proven_at", "candles_at"), "presence", _CLOCK),
    Exemption("hl.lake_days", ("loaded_at", "compacted_at"), "presence", _CLOCK),
    Exemption("hl.twap_days", ("loaded_at", "twaps_at"), "presence", _CLOCK),
    Exemption("hl.twap_statuses", ("inserted_at",), "presence", _CLOCK),
    Exemption("hl.coverage", ("fetched_at", "judged_at"), "presence", _CLOCK),
    Exemption("hl.acknowledged", ("at",), "presence", _CLOCK),
    Exemption("hl.dirty_days", ("noted_at",), "presence", _CLOCK),
    Exemption("hl.info_egresses", ("blocked_until",), "presence", _CLOCK),
    Exemption("hl.backfill_progress", ("started_at", "ended_at", "history_at"), "presence", _CLOCK),
    Exemption("hl.s3_requests", ("at",), "presence", _CLOCK),
    Exemption("hl.s3_requests", ("seconds",), "presence", "a duration"),
    Exemption("hl.s3_requests", ("run_id",), "presence", "random, of Dagster"),
    Exemption("hl.s3_requests", ("id",), "left out", "the order in which threads asked; a request is what it asked for and got"),
    Exemption("hl.info_calls", ("*",), "left out", "calls of the last minute: which rows are there depends on when one looks"),
    Exemption("hl.workers", ("*",), "left out", "which workers are there when one looks"),
    Exemption("hl.worker_runs", ("*",), "left out", "which runs are in progress when one looks"),
    Exemption("hl.s3_ingest_log", ("etag",), "without time of change", _MTIME),
    Exemption("hl.fills_day_objects", ("etag",), "without time of change", _MTIME),
    Exemption("hl.twap_day_objects", ("etag",), "without time of change", _MTIME),
    Exemption("hl.coverage", ("etag",), "without time of change", _MTIME),
    Exemption("lake", ("fetched_at", "started_at", "ended_at", "history_at"), "presence", _CLOCK),
    Exemption("lake", ("etag", "objects"), "without time of change", _MTIME),
    Exemption("lake partials", ("*",), "in any order", "they are written as a group_by gives them, and merged in any order"),
    Exemption("lake", ("id", "of", *map(str, range(24))), "by its file", "each file of fills has a random id; others name it"),
)

_DIRECTORY_ETAG = re.compile(r"([0-9a-f]+)-[0-9a-f]{16}")
_RANDOM_ID = re.compile(r"[0-9a-f]{32}")
_HOW_IN_LAKE: dict[str, How] = {name: rule.how for rule in NOT_COMPARED if rule.place == "lake" for name in rule.names}


def how_as_a_whole(place: str) -> How | None:
    """Return how a whole table, or part of the lake, is compared. None: by value."""
    return next((rule.how for rule in NOT_COMPARED if rule.place == place and rule.names == ("*",)), None)


def column_as_compared(table: str, column: str) -> str | None:
    """Return the SQL expression by which a column is compared, or None if it is left out."""
    name = f'"{column}"'
    match next((rule.how for rule in NOT_COMPARED if rule.place == table and column in rule.names), None):
        case "left out":
            return None
        case "presence":
            return f"CASE WHEN {name} IS NOT NULL THEN 'set' END"
        case "without time of change":
            return f"regexp_replace({name}, '^{_DIRECTORY_ETAG.pattern}$', '\\1-time')"
        case _:
            return name


def value_as_compared(value: Any, files: dict[str, str], how: How | None = None) -> Any:
    """Prepare a value of the lake's JSON for comparison. `files`: the path of the file with each ID."""
    if isinstance(value, dict):
        return {name: value_as_compared(inner, files, _HOW_IN_LAKE.get(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [value_as_compared(inner, files, how) for inner in value]
    if how == "presence":
        return None if value is None else "set"
    if how == "without time of change" and isinstance(value, str) and (match := _DIRECTORY_ETAG.fullmatch(value)):
        return f"{match[1]}-time"
    if how == "by its file" and isinstance(value, str) and _RANDOM_ID.fullmatch(value):
        return files.get(value, "a file that is not there any more")
    return value
