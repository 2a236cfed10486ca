"""The same figures of a day's fills from every engine, and from the source's records by Python alone.

Each function returns a dictionary of counts of every column, exact sums of every number, fees by token and sizes by coin. Where
an engine would round, or overflow without a word, the form that it needs is here and on docs/guides/engines.md.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pyarrow as pa

from hl_pipeline_tests.naive.fills import event_day, read_bucket

# pyarrow has no types, and those of its functions are made when it is imported.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

pc: Any = import_module("pyarrow.compute")

Figures = dict[str, Any]
Exact = Callable[[str, int], list[str]]

WHOLE = (
    *("block_number", "block_time_ns", "local_time_ns", "oid", "counterparty_oid", "tid", "twap_id", "ordinal"),
    "line",
)
EXACT = {
    **dict.fromkeys(("px", "sz", "start_position", "closed_pnl", "fee", "builder_fee", "deployer_fee", "priority_gas"), 10),
    "liquidation_mark_px": 10,
    "notional": 20,
}
OTHERS = ("coin", "wallet", "side", "dir", "hash", "cloid", "fee_token", "builder", "liquidated_user", "liquidation_method")
JSON_AND_OBJECT = ("extra", "object")
COLUMNS = (*WHOLE, *EXACT, *OTHERS, *JSON_AND_OBJECT, "crossed", "time")

NOTIONAL_BELOW = 10**18
"""`notional` is NULL from here on: numeric(38, 20) has 18 digits before the point."""

_RENAMED = {
    "wallet": "user",
    "start_position": "startPosition",
    "closed_pnl": "closedPnl",
    "fee_token": "feeToken",
    "builder_fee": "builderFee",
    "deployer_fee": "deployerFee",
    "priority_gas": "priorityGas",
    "twap_id": "twapId",
}
_SAME = ("coin", "side", "dir", "hash", "cloid", "tid", "px", "sz", "oid", "fee", "builder", "crossed", "time")
_FIELDS = {**dict(zip(_SAME, _SAME, strict=True)), **_RENAMED}
_USUAL = ("cloid", "builder", "builderFee", "deployerFee", "priorityGas", "liquidation")


def read_records(bucket: Path, day: date) -> list[dict[str, Any]]:
    """Return the day's fills in a bucket of node_fills_by_block, each once, with the lake's columns except `line`."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    with localcontext() as context:
        context.prec = 100
        for block, user, fill in read_bucket(bucket):
            key = tuple(fill[name] for name in ("time", "coin", "side", "tid"))
            if event_day(fill) == day and (*key, user) not in found:
                found[*key, user] = _record(block, user.lower(), fill)
    return [*found.values()]


def _record(block: dict[str, Any], user: str, fill: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {column: {**fill, "user": user}.get(field) for column, field in _FIELDS.items()}
    liquidation = fill.get("liquidation") or {}
    row |= {
        "liquidated_user": liquidation.get("liquidatedUser"),
        "liquidation_mark_px": liquidation.get("markPx"),
        "liquidation_method": liquidation.get("method"),
        "block_number": block["block_number"],
        "block_time_ns": _ns(block["block_time"]),
        "local_time_ns": _ns(block["local_time"]),
        "counterparty_oid": None,
        "ordinal": block["ordinal"],
        "object": block["object"],
    }
    row |= {name: Decimal(row[name]) for name in EXACT if row.get(name) is not None}
    notional = row["px"] * row["sz"]
    row["notional"] = notional if abs(notional) < NOTIONAL_BELOW else None
    regular = [field for field in _FIELDS.values() if field not in (*_USUAL, "user")]
    is_odd = any(name not in fill for name in regular) or bool({*fill} - {*regular, *_USUAL})
    row["extra"] = "{}" if is_odd or any(name in fill and fill[name] is None for name in _USUAL) else None
    return row


def _ns(text: str) -> int:
    seconds, fraction = text.split(".")
    return int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def of_records(records: Sequence[dict[str, Any]]) -> Figures:
    """Return the figures of `read_records`."""
    with localcontext() as context:
        context.prec = 100
        found: Figures = {"rows": len(records)}
        for column in COLUMNS:
            values = [row[column] for row in records if row.get(column) is not None]
            found[f"count {column}"] = len(values)
            if column in (*WHOLE, *EXACT, "crossed", "time"):
                found[f"sum {column}"] = sum(values) if values else None
        for title, value, key in _GROUPS:
            sums: dict[Any, Decimal | None] = defaultdict(lambda: None)
            for row in records:
                before, added = sums[row[key]], row[value]
                sums[row[key]] = before if added is None else added if before is None else before + added
            found |= {f"{title} {name}": total for name, total in sums.items()}
    return found


_GROUPS = (("fee in", "fee", "fee_token"), ("size of", "sz", "coin"))


def without(figures: Figures, *columns: str) -> Figures:
    """Return the figures without those of some columns."""
    return {name: value for name, value in figures.items() if name.partition(" ")[2] not in columns}


def _by_sql(
    run: Callable[[str], Sequence[Sequence[Any]]],
    table: str,
    whole: Callable[[str], str],
    exact: Exact,
    time_ms: str,
    missing: Sequence[str] = (),
) -> Figures:
    """Return the figures by SQL. `exact` returns terms whose sum is the sum of a column of decimals with a scale."""
    terms: list[tuple[str, str]] = [("rows", "count(*)")]
    terms += [(f"count {column}", f"count({column})") for column in COLUMNS if column not in missing]
    terms += [(f"sum {column}", whole(column)) for column in WHOLE if column not in missing]
    terms += [
        (f"sum {column}", term) for column, scale in EXACT.items() if column not in missing for term in exact(column, scale)
    ]
    terms += [("sum crossed", whole("CASE WHEN crossed THEN 1 ELSE 0 END")), ("sum time", whole(time_ms))]
    found = _add_up(
        zip((name for name, _ in terms), run(f"SELECT {', '.join(term for _, term in terms)} FROM {table}")[0], strict=True)
    )
    for title, value, key in _GROUPS:
        sums = ", ".join(exact(value, EXACT[value]))
        for name, *parts in run(f"SELECT {key}, {sums} FROM {table} GROUP BY {key}"):
            found |= _add_up((f"{title} {name}", part) for part in parts)
    return found


def _add_up(parts: Iterable[tuple[str, Any]]) -> Figures:
    found: Figures = {}
    with localcontext() as context:
        context.prec = 100
        for name, part in parts:
            value = part if part is None or isinstance(part, int) else Decimal(str(part))
            found[name] = value if found.get(name) is None else found[name] + value
    return found


def of_duckdb(files: Sequence[str]) -> Figures:
    """DuckDB 2 adds integers as HUGEINT. A sum of decimals that needs more than 38 digits is an error, so the parts are added."""
    return _by_sql(
        lambda query: duckdb.execute(query).fetchall(),
        f"read_parquet({[*files]!r}, hive_partitioning = false)",
        lambda column: f"sum({column})",
        lambda column, _: [f"sum(trunc({column})::DECIMAL(38, 0))", f"sum({column} - trunc({column}))"],
        "epoch_ms(time)",
    )


def of_datafusion(files: Sequence[str]) -> Figures:
    """DataFusion adds as BIGINT and as DECIMAL(38), and wraps around without an error, so it casts first."""
    context: Any = import_module("datafusion").SessionContext()
    for number, path in enumerate(files):
        context.register_parquet(f"part{number}", path)
    context.register_view("fills", context.sql(" UNION ALL ".join(f"SELECT * FROM part{number}" for number in range(len(files)))))

    def run(query: str) -> Sequence[Sequence[Any]]:
        table = context.sql(query).to_arrow_table()
        return [*zip(*(column.to_pylist() for column in table.columns), strict=True)]

    return _by_sql(
        run,
        "fills",
        lambda term: f"sum(CAST({term} AS DECIMAL(38, 0)))",
        lambda column, scale: [f"sum(CAST({column} AS DECIMAL(76, {scale})))"],
        "arrow_cast(arrow_cast(time, 'Timestamp(Millisecond, Some(\"UTC\"))'), 'Int64')",
    )


def of_chdb(files: Sequence[str]) -> Figures:
    """ClickHouse adds as Int64 and as Decimal(38), and wraps around without an error, so it converts to 256 bits first."""
    chdb: Any = import_module("chdb")

    def run(query: str) -> Sequence[Sequence[Any]]:
        answer = json.loads(str(chdb.query(query, "JSONCompactStrings")))
        return [[None if value in (None, "ᴺᵁᴸᴸ") else value for value in row] for row in answer["data"]]

    [folder] = {path.rpartition("/")[0] for path in files}
    names = ",".join(path.rpartition("/")[2] for path in files)
    return _by_sql(
        run,
        f"file('{folder}/{{{names}}}', 'Parquet')",
        lambda term: f"sum(toInt256({term}))",
        lambda column, scale: [f"sum(toDecimal256({column}, {scale}))"],
        "toUnixTimestamp64Milli(toDateTime64(time, 3))",
    )


def of_spark(session: Any, files: Sequence[str]) -> Figures:
    """Spark adds as BIGINT and as DECIMAL(38), and refuses what is larger, so whole parts and rests are added. `session`: see
    `start_spark`.
    """
    session.read.parquet(*files).createOrReplaceTempView("fills")
    return _by_sql(
        lambda query: session.sql(query).collect(),
        "fills",
        lambda term: f"sum(CAST({term} AS DECIMAL(38, 0)))",
        lambda column, _: [f"sum(CAST({column} - {column} % 1 AS DECIMAL(38, 0)))", f"sum({column} % 1)"],
        "unix_millis(time)",
    )


@contextmanager
def start_spark() -> Generator[Any]:
    """Run a standalone cluster of a master and two workers, each with an executor of its own process, and yield a session."""
    builder = import_module("pyspark.sql").SparkSession.builder.master("local-cluster[2,1,1024]")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        yield session
    finally:
        session.stop()


def of_postgresql(connection: psycopg.Connection) -> Figures:
    """PostgreSQL adds as numeric. hl.fills has no notional: px * sz is exact there."""
    table = (
        "(SELECT *, CASE WHEN abs(px * sz) < 1e18 THEN px * sz END AS notional, extract(epoch FROM time) * 1000 AS time_ms "
        "FROM hl.fills) AS fills"
    )
    return _by_sql(
        lambda query: connection.execute(query.encode()).fetchall(),
        table,
        lambda term: f"sum({term})",
        lambda column, _: [f"sum({column})"],
        "time_ms",
        missing=ONLY_LAKE,
    )


ONLY_LAKE = ("local_time_ns", "line", "object")
"""The columns that hl.fills does not have."""


def of_polars(fills: pl.LazyFrame) -> Figures:
    """Polars adds integers as Int64 and wraps around without an error. It refuses a sum of decimals with more than 38 digits."""

    def exact(column: str) -> list[pl.Expr]:
        value = pl.col(column)
        whole = value.cast(pl.Int128)
        fraction = value - whole.cast(pl.Decimal(38, EXACT[column]))
        # A sum without values is 0, but NULL in SQL.
        return [pl.when(value.count() > 0).then(part.sum()).alias(f"{n} {column}") for n, part in enumerate((whole, fraction))]

    def whole(name: str, value: pl.Expr) -> pl.Expr:
        return pl.when(value.count() > 0).then(value.cast(pl.Int128).sum()).alias(f"sum {name}")

    counts = [pl.len().alias("rows"), *(pl.col(column).count().alias(f"count {column}") for column in COLUMNS)]
    wholes = [whole(name, pl.col(name)) for name in (*WHOLE, "crossed")] + [whole("time", pl.col("time").dt.epoch("ms"))]
    row = fills.select(*counts, *wholes, *(part for column in EXACT for part in exact(column))).collect().row(0, named=True)
    found = _add_up((f"sum {name[2:]}" if name[0] in "01" else name, value) for name, value in row.items())
    for title, value, key in _GROUPS:
        for group in fills.group_by(key).agg(*exact(value)).collect().iter_rows():
            found |= _add_up((f"{title} {group[0]}", part) for part in group[1:])
    return found


def of_arrow(table: pa.Table) -> Figures:
    """Arrow (and so pyiceberg's `to_arrow`) adds as int64 and as decimal128, and wraps around without an error."""

    def total(values: pa.ChunkedArray, kind: pa.DataType) -> Any:
        return pc.sum(values.cast(kind)).as_py()

    found: Figures = {"rows": table.num_rows}
    for column in COLUMNS:
        found[f"count {column}"] = pc.count(table[column]).as_py()
    for column in WHOLE:
        found[f"sum {column}"] = total(table[column], pa.decimal128(38, 0))
    for column, scale in EXACT.items():
        found[f"sum {column}"] = total(table[column], pa.decimal256(76, scale))
    found["sum crossed"] = pc.sum(table["crossed"]).as_py()
    times = table["time"].cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
    found["sum time"] = total(times, pa.decimal128(38, 0))
    for title, value, key in _GROUPS:
        wide = pa.table({"key": table[key], "value": table[value].cast(pa.decimal256(76, EXACT[value]))})
        for group in wide.group_by("key").aggregate([("value", "sum")]).to_pylist():
            found[f"{title} {group['key']}"] = group["value_sum"]
    return found
