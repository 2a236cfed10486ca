"""What the asset checks of several assets share. No judgement is made here."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    JsonMetadataValue,
    MetadataValue,
)

from hl_pipeline.domain.checks import Check
from hl_pipeline.domain.records import ObjectMeta, StatusObject


def check_bad_lines(metas: Sequence[ObjectMeta | StatusObject], max_share: float) -> AssetCheckResult:
    """Whether no object has too great a share of its lines in quarantine."""
    bad = [meta for meta in metas if meta.bad_lines]
    count = sum(meta.bad_lines for meta in bad)
    over = [meta for meta in bad if meta.bad_lines > max_share * max(meta.lines, 1)]
    return AssetCheckResult(
        check_name="lines_taken",
        passed=not over,
        description=f"{count} lines or events in quarantine, of {sum(meta.lines for meta in metas)} lines.",
        metadata={"bad_lines": count}
        | listed("objects_with_bad_lines", [{"key": m.key, "bad_lines": m.bad_lines, "lines": m.lines} for m in bad]),
    )


def listed(name: str, items: list[dict[str, str | int]]) -> dict[str, int | JsonMetadataValue]:
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
    return AssetCheckSeverity.WARN if is_harmless else AssetCheckSeverity.ERROR
