"""The checks of a day's objects, from the verdict and the objects' metadata in the lake. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hl_pipeline.domain.checks import Check, Figure
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.records import IgnoredObject, StatusObject, StoredObject
from hl_pipeline.domain.status_completeness import StatusVerdict, find_strays

_HOLES_SHOWN = 1000
_NAMES_SHOWN = 3


def check_hours(verdict: DayVerdict, ignored: Sequence[IgnoredObject] = ()) -> Check:
    """Check that every object that the day needs is in the lake. Ignored objects are counted and named."""
    missing = [state for state in verdict.hours if state.state != "present"]
    objects: list[dict[str, str | int]] = [
        {
            "source": state.source.name,
            "hour": state.hour.isoformat(),
            "state": state.state,
            "why": state.why,
            "acknowledged": state.note or "",
        }
        for state in missing
    ]
    found = verdict.explain() if missing or not verdict.hours else f"All {len(verdict.hours)} objects are present."
    return Check(
        "hours_present",
        not missing,
        found + describe_ignored(ignored),
        verdict.hours_are_harmless,
        {"missing_hours": len(missing), **_list("missing_objects", objects), **_list_ignored(ignored)},
    )


def check_holes(verdict: DayVerdict) -> Check:
    """Check that no block number is missing within an object or between objects."""
    missing = sum(state.state != "present" for state in verdict.hours)
    acknowledged = ", all acknowledged" if verdict.holes_are_harmless else ""
    problem = f"{verdict.missing_blocks} blocks missing in {len(verdict.holes)} holes{acknowledged}."
    none = "No block missing" + (f" within the present objects; {missing} objects are missing." if missing else ".")
    holes: list[dict[str, str | int]] = [
        {"first": hole.first, "last": hole.last, "where": hole.where} for hole in verdict.holes[:_HOLES_SHOWN]
    ]
    return Check(
        "blocks_without_holes",
        not verdict.holes,
        problem if verdict.holes else none,
        verdict.holes_are_harmless,
        {"missing_blocks": verdict.missing_blocks, **_list("holes", holes)},
    )


def check_bad_lines(metas: Sequence[StoredObject], max_share: float) -> Check:
    """Check that no object has more than `max_share` of its lines in quarantine."""
    bad = [meta for meta in metas if meta.bad_lines]
    count = sum(meta.bad_lines for meta in bad)
    objects: list[dict[str, str | int]] = [{"key": m.key, "bad_lines": m.bad_lines, "lines": m.lines} for m in bad]
    return Check(
        "lines_taken",
        all(meta.bad_lines <= max_share * max(meta.lines, 1) for meta in bad),
        f"{count} lines or events in quarantine, of {sum(meta.lines for meta in metas)} lines.",
        metadata={"bad_lines": count, **_list("objects_with_bad_lines", objects)},
    )


def check_presence(name: str, verdict: StatusVerdict, ignored: Sequence[IgnoredObject] = ()) -> Check:
    """Check that the objects of a day of statuses are present. Unprovable days and days without a source also pass."""
    found = verdict.explanation + describe_ignored(ignored)
    return Check(name, verdict.state in ("unprovable", "no source"), found, verdict.is_harmless, _list_ignored(ignored))


def check_strays(objects: Sequence[StatusObject]) -> Check:
    """Check that no object has events far from the day in its key."""
    strays = find_strays(objects)
    everything_near = "Every event is within a day of the day in its object's key."
    return Check("events_near_their_day", not strays, ". ".join(strays[:3]) or everything_near, True, {"objects": len(strays)})


def describe_ignored(ignored: Sequence[IgnoredObject]) -> str:
    """Describe ignored objects in a sentence: their number, reasons and first names. Empty if there are none."""
    if not ignored:
        return ""
    names = ", ".join(found.key for found in ignored[:_NAMES_SHOWN]) + (", ..." if len(ignored) > _NAMES_SHOWN else "")
    reasons = "; ".join(sorted({found.reason for found in ignored}))
    return f" {len(ignored)} {'file is' if len(ignored) == 1 else 'files are'} ignored ({reasons}): {names}."


def _list_ignored(ignored: Sequence[IgnoredObject]) -> dict[str, Figure]:
    items: list[dict[str, str | int]] = [{"key": found.key, "why": found.reason} for found in ignored[:_HOLES_SHOWN]]
    return {"objects_ignored": len(ignored), **_list("ignored_objects", items)} if ignored else {}


def _list(name: str, items: list[dict[str, str | int]]) -> dict[str, Figure]:
    """Return the metadata entry of a list; no entry if it is empty."""
    return {name: items} if items else {}
