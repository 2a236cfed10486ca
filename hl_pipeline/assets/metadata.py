"""What the UI shows of the assets: owners, tables, columns with their lineage, and the results of stages."""

import warnings
from collections.abc import Mapping
from typing import Any

from dagster import (
    AssetCheckSpec,
    MaterializeResult,
    MetadataValue,
    PartitionsDefinition,
    PreviewWarning,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

from hl_pipeline.assets.checks import to_result
from hl_pipeline.data_dictionary import (
    COMPACTED_ONLY,
    FILL_COLUMNS,
    LAKE_ONLY,
    ORDINAL,
    STATUS_COLUMNS,
    STATUS_LAKE_ONLY,
    TABLES,
    Column,
)
from hl_pipeline.domain.checks import StageResult
from hl_pipeline.partitions import DAYS, SHARDS
from hl_pipeline.resources import StageResults

_COUNTS = ("", "rows", "trades", "wallets", "coins", "TWAPs", "blocks")  # units that the meaning already names
OWNERS = ["team:hl-pipeline"]


def report(
    results: StageResults, asset: str, made: StageResult, rows: int, figures: Mapping[str, int | float | str | MetadataValue]
) -> MaterializeResult:
    """Report the result of a stage to the UI, and keep it for the caller that runs the asset in this process."""
    results.by_asset[asset] = made
    return MaterializeResult(
        asset_key=asset,
        metadata={**figures, "dagster/partition_row_count": rows, "seconds": round(made.seconds, 3)},
        check_results=[to_result(check, asset) for check in made.checks],
    )


def check_of_day(asset: str, name: str, description: str) -> AssetCheckSpec:
    """Return the spec of a check per day, so that an incomplete day stays red when another day is loaded."""
    return _check_of(asset, name, description, DAYS)


def check_of_shard(asset: str, name: str, description: str) -> AssetCheckSpec:
    """Return the spec of a check per shard."""
    return _check_of(asset, name, description, SHARDS)


def _check_of(asset: str, name: str, description: str, partitions: PartitionsDefinition) -> AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature of Dagster 1.13, which the lock file pins.
        warnings.simplefilter("ignore", PreviewWarning)
        return AssetCheckSpec(name, asset=asset, description=description, partitions_def=partitions)


def table_metadata(table: str) -> dict[str, Any]:
    """Return the table's name and its columns with units, as metadata."""
    return {"dagster/table_name": table, "dagster/column_schema": _schema(TABLES[table].columns)}


def lake_metadata() -> dict[str, Any]:
    """Return the columns of raw_fills, which is only in the lake, as metadata."""
    return {"dagster/column_schema": _schema(FILL_COLUMNS + LAKE_ONLY)}


def compacted_metadata() -> dict[str, Any]:
    """Return the columns of a compacted day of fills, as metadata."""
    return {"dagster/column_schema": _schema((*FILL_COLUMNS, ORDINAL, *LAKE_ONLY, *COMPACTED_ONLY))}


def status_lake_metadata() -> dict[str, Any]:
    """Return the columns of raw_twap_statuses, which is only in the lake, as metadata."""
    return {"dagster/column_schema": _schema(STATUS_COLUMNS + STATUS_LAKE_ONLY)}


def column_lineage(table: str) -> dict[str, Any]:
    """Return the upstream columns of each column, as metadata."""
    described = TABLES[table]
    assert described.upstream is not None
    deps = {
        column.name: [_column_dep(name, described.upstream) for name in column.comes_from]
        for column in described.columns
        if not isinstance(column.comes_from, str)
    }
    return {"dagster/column_lineage": TableColumnLineage(deps_by_column=deps)}


def _column_dep(name: str, upstream: str) -> TableColumnDep:
    """Return the dependency on `name`: a column of the asset `upstream`, or `asset.column` for another asset."""
    asset, _, column = name.rpartition(".")
    return TableColumnDep(asset_key=asset or upstream, column_name=column)


def _schema(columns: tuple[Column, ...]) -> TableSchema:
    return TableSchema([TableColumn(column.name, column.type, description=_describe(column)) for column in columns])


def _describe(column: Column) -> str:
    return f"{column.meaning} Unit: {column.unit}." if column.unit not in _COUNTS else column.meaning
