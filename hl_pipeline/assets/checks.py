"""Shared by the assets that fetch objects and by the checks of several assets. No verdicts are computed here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    MetadataValue,
)

from hl_pipeline.domain.checks import Check

if TYPE_CHECKING:
    from hl_pipeline.stages.fetch import FetchResult
    from hl_pipeline.stages.raw_tables import Meta


def describe_fetched(result: FetchResult[Meta], own: Sequence[Meta]) -> dict[str, int | float]:
    """Return the metadata of a fetched day. `own`: the day's objects in the lake."""
    return {
        "objects": len(own),
        "objects_to_fetch": len(result.to_fetch),
        "objects_fetched": len(result.fetched),
        "objects_ignored": len(result.ignored),
        "bytes": sum(meta.size for meta in own),
        "bytes_to_fetch": sum(result.to_fetch),
        "bytes_fetched": sum(meta.size for meta in result.fetched),
        "requests": result.requests,
        "dollars_expected": float(result.dollars_expected),
        "dollars": float(result.dollars),
        "bad_lines": sum(meta.bad_lines for meta in own),
    }


def to_result(check: Check, asset: str) -> AssetCheckResult:
    """Convert a check of a stage to a Dagster result of `asset`."""
    return AssetCheckResult(
        asset_key=asset,
        check_name=check.name,
        passed=check.passed,
        severity=severity(check.is_harmless),
        description=check.description,
        metadata={
            name: MetadataValue.json(figure) if isinstance(figure, list) else figure for name, figure in check.metadata.items()
        },
    )


def severity(is_harmless: bool) -> AssetCheckSeverity:
    """Return WARN if the failure is harmless, otherwise ERROR."""
    return AssetCheckSeverity.WARN if is_harmless else AssetCheckSeverity.ERROR
