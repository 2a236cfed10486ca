"""What the assets that fetch objects, and the checks of several assets, share. No verdict is reached here."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    JsonMetadataValue,
    MetadataValue,
)

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.records import StoredObject
from hl_pipeline.stages.fetch import FetchResult
from hl_pipeline.stages.raw_tables import Meta


def describe_fetched(result: FetchResult[Meta], own: Sequence[Meta], seconds: float) -> dict[str, int | float]:
    """The figures of a day that was fetched in so many seconds; `own`: its objects that are in the lake."""
    return {
        "dagster/partition_row_count": sum(meta.rows for meta in own),
        "objects": len(own),
        "objects_to_fetch": len(result.to_fetch),
        "objects_fetched": len(result.fetched),
        "bytes": sum(meta.size for meta in own),
        "bytes_to_fetch": sum(result.to_fetch),
        "bytes_fetched": sum(meta.size for meta in result.fetched),
        "requests": result.requests,
        "dollars_expected": float(result.dollars_expected),
        "dollars": float(result.dollars),
        "bad_lines": sum(meta.bad_lines for meta in own),
        "seconds": round(seconds, 3),
    }


def check_bad_lines(metas: Sequence[StoredObject], max_share: float) -> AssetCheckResult:
    """Whether no object has too great a share of its lines in quarantine."""
    bad = [meta for meta in metas if meta.bad_lines]
    count = sum(meta.bad_lines for meta in bad)
    over = [meta for meta in bad if meta.bad_lines > max_share * max(meta.lines, 1)]
    return AssetCheckResult(
        check_name="lines_taken",
        passed=not over,
        description=f"{count} lines or events in quarantine, of {sum(meta.lines for meta in metas)} lines.",
        metadata={"bad_lines": count}
        | list_metadata("objects_with_bad_lines", [{"key": m.key, "bad_lines": m.bad_lines, "lines": m.lines} for m in bad]),
    )


def list_metadata(name: str, items: list[dict[str, str | int]]) -> dict[str, int | JsonMetadataValue]:
    """The metadata entry of a list, none of an empty one."""
    return {name: MetadataValue.json(items)} if items else {}


def to_result(check: Check) -> AssetCheckResult:
    """A check of a stage as Dagster shows it."""
    return AssetCheckResult(
        check_name=check.name,
        passed=check.passed,
        severity=severity(check.is_harmless),
        description=check.description,
        metadata={
            name: MetadataValue.json(figure) if isinstance(figure, list) else figure for name, figure in check.metadata.items()
        },
    )


def severity(is_harmless: bool) -> AssetCheckSeverity:
    """WARN where the day is not at fault, else ERROR."""
    return AssetCheckSeverity.WARN if is_harmless else AssetCheckSeverity.ERROR
