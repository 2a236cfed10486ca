"""Candles and statistics of a day, compared with DuckDB and plain polars on the same Parquet. Not a test.

DuckDB and polars compute what the tables say, for generated days of `node_fills_by_block`: there every fill has a tid and a fee,
and no price is absurd. On such a day their tables must equal ours to the last digit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import date

import duckdb
import polars as pl
from polars.testing import assert_frame_equal

from hl_pipeline.figures.candles import CANDLE_SCHEMA
from hl_pipeline.figures.daily_stats import DAILY_STATS_SCHEMA
from hl_pipeline.figures.user_stats import USER_STATS_SCHEMA
from hl_pipeline.lake.store import Lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.derive import DAILY_STATS, MERGE, USER_STATS, figures_of_hours, make_figures_of_day
from hl_pipeline.warehouse.connect import connect, find_database_url

RUNS = 3
THREADS = 2
_SCHEMAS = {"candles": CANDLE_SCHEMA, "daily_stats": DAILY_STATS_SCHEMA, "user_stats": USER_STATS_SCHEMA}
_KEYS = {"candles": ["coin", "time"], "daily_stats": ["coin"], "user_stats": ["wallet"]}
Tables = dict[str, pl.DataFrame]


def measure(lake: Lake, day: date) -> dict[str, float]:
    """Measure the seconds to make a day's candles, daily_stats and user_stats from a local lake's Parquet (medians of RUNS).

    The variants: ours into PostgreSQL as in the stages, ours without PostgreSQL, DuckDB and polars.

    Raises AssertionError if the tables differ.
    """
    files = f"{lake.root}/fills/date={day}/*.parquet"
    ways: dict[str, Callable[[], Tables | None]] = {
        "into PostgreSQL": lambda: _make_rows(lake, day),
        "ours": lambda: _make_frames(lake, day),
        "DuckDB": lambda: _by_duckdb(files),
        "polars": lambda: _by_polars(files),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    tables: dict[str, Tables] = {}
    for _ in range(RUNS):
        for way, make in ways.items():
            started = time.perf_counter()
            made = make()
            seconds[way].append(time.perf_counter() - started)
            if made is not None:
                tables[way] = made
    for way in ("DuckDB", "polars"):
        for table, expected in tables[way].items():
            assert_frame_equal(_in_order(table, tables["ours"][table]), _in_order(table, expected))
    medians = {way: statistics.median(of_way) for way, of_way in seconds.items()}
    faster = min(medians["DuckDB"], medians["polars"])
    return {f"candles and statistics, {way}, seconds": median for way, median in medians.items()} | {
        "candles and statistics, share of the faster": medians["into PostgreSQL"] / faster,
        "the same without PostgreSQL, share of the faster": medians["ours"] / faster,
    }


def _in_order(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMAS[table].items()).sort(_KEYS[table])


def _make_rows(lake: Lake, day: date) -> None:
    with connect(find_database_url(Settings())) as connection:
        dict(make_figures_of_day(day, lake, connection))


def _make_frames(lake: Lake, day: date) -> Tables:
    figures = figures_of_hours(day, lake, (DAILY_STATS, USER_STATS), range(24), set(), keep=False)
    return {table: MERGE[table](of_hours) for table, of_hours in figures.items()}


_SQL_FILLS = """
CREATE TEMP TABLE fills AS
SELECT time, coin, wallet, side = 'B' AS bought, px, sz, crossed, tid, twap_id, fee, fee_token, closed_pnl, place,
       split_part(object, '/', 1) AS source, is_market, kind,
       CASE WHEN is_market THEN px * sz ELSE 0 END AS notional,
       builder IS NOT NULL OR builder_fee IS NOT NULL OR coalesce(contains(extra, '"builder":'), false) AS has_builder,
       coalesce(liquidated_user, liquidation_mark_px::VARCHAR, liquidation_method) IS NOT NULL
           OR coalesce(contains(extra, '"liquidation":'), false) AS is_liquidation,
       CASE WHEN fee = 0 THEN 0
            WHEN fee_token IN (coin, base) OR kind = 'outcome' AND fee_token = '+' || coin[2:] THEN fee * px
            WHEN kind = 'outcome' AND fee_token NOT IN ('USDC', 'USDH', 'USDT0', 'USDE') THEN NULL
            WHEN kind = 'spot' AND fee_token IS DISTINCT FROM quote AND (side = 'B') = (fee >= 0) THEN fee * px
            ELSE fee::DECIMAL(38, 20) END AS fee_in_quote
FROM (
    SELECT *, row_number() OVER () AS place,
           tid <> 0 AND NOT coalesce(dir IN ('Spot Dust Conversion', 'Net Child Vaults', 'Settlement')
               OR regexp_matches(dir, '^(Split|Merge|Negate) '), false) AS is_market,
           CASE WHEN contains(coin, ':') THEN 'hip3' WHEN coin LIKE '#%' THEN 'outcome'
                WHEN coin LIKE '@%' OR contains(coin, '/') THEN 'spot' ELSE 'perp' END AS kind,
           CASE WHEN contains(coin, '/') THEN split_part(coin, '/', 1) END AS base,
           CASE WHEN contains(coin, '/') THEN split_part(coin, '/', 2) END AS quote
    FROM read_parquet('{files}', hive_partitioning = false)
)
"""
_SQL_TRADES = """
CREATE TEMP TABLE trades AS
SELECT time, coin, tid, min(place) AS place, arg_max(px, crossed) AS px, arg_max(sz, crossed) AS sz,
       arg_max(notional, crossed) AS notional, arg_max(bought, crossed) = bool_or(crossed) AS taker_buys,
       bool_or(twap_id IS NOT NULL) AS has_twap, bool_or(has_builder) AS has_builder, bool_or(is_liquidation) AS is_liquidation
FROM fills WHERE is_market GROUP BY time, coin, tid
"""
_SQL_CANDLES = """
SELECT coin, date_trunc('minute', time) AS time, arg_min(px, place) AS open, max(px) AS high, min(px) AS low,
       arg_max(px, place) AS close, sum(sz) AS volume, sum(notional) AS notional, count(*) AS trades
FROM trades GROUP BY 1, 2
"""
_SQL_FEES = """
(SELECT {key}, '{{' || string_agg('"' || fee_token || '": "' || amount || '"', ', ' ORDER BY fee_token) || '}}' AS fees
 FROM (SELECT {key}, fee_token, rtrim(rtrim(sum(fee)::VARCHAR, '0'), '.') AS amount FROM fills GROUP BY ALL) GROUP BY ALL)
"""
_SQL_DAILY = f"""
SELECT of_rows.*, fees, open, high, low, close, coalesce(COLUMNS(of_coin.* EXCLUDE (coin, open, high, low, close)), 0)
FROM (SELECT coin, any_value(kind) AS kind, count(*) FILTER (is_market) AS fills,
             count(*) FILTER (NOT is_market) AS non_market_rows, count(fee) AS fees_known,
             CASE WHEN count(fee_in_quote) = count(*) THEN sum(fee_in_quote) END AS fees_in_quote,
             count(DISTINCT wallet) FILTER (is_market) AS wallets FROM fills GROUP BY coin) AS of_rows
JOIN {_SQL_FEES.format(key="coin")} USING (coin)
LEFT JOIN (
    SELECT coin, count(*) AS trades, sum(sz) AS volume, sum(notional) AS notional,
           count(*) FILTER (taker_buys) AS buys, count(*) FILTER (NOT taker_buys) AS sells,
           sum(sz) FILTER (taker_buys) AS buy_volume, sum(sz) FILTER (NOT taker_buys) AS sell_volume,
           sum(notional) FILTER (taker_buys) AS buy_notional, sum(notional) FILTER (NOT taker_buys) AS sell_notional,
           count(*) FILTER (is_liquidation) AS liquidations, sum(notional) FILTER (is_liquidation) AS liquidation_notional,
           sum(sz) FILTER (has_twap) AS twap_volume, sum(notional) FILTER (has_twap) AS twap_notional,
           sum(sz) FILTER (has_builder) AS builder_volume, sum(notional) FILTER (has_builder) AS builder_notional,
           arg_min(px, place) AS open, max(px) AS high, min(px) AS low, arg_max(px, place) AS close
    FROM trades GROUP BY coin
) AS of_coin USING (coin)
"""
_SQL_USER = f"""
SELECT * FROM (
    SELECT wallet, count(*) FILTER (is_market) AS fills, count(*) FILTER (NOT is_market) AS non_market_rows,
           count(*) FILTER (is_market AND NOT crossed) AS maker_fills, count(*) FILTER (is_market AND crossed) AS taker_fills,
           coalesce(sum(notional) FILTER (NOT crossed), 0) AS maker_notional,
           coalesce(sum(notional) FILTER (crossed), 0) AS taker_notional,
           sum(closed_pnl) AS closed_pnl, count(closed_pnl) AS closed_pnl_known, count(fee) AS fees_known,
           CASE WHEN count(fee_in_quote) = count(*) THEN sum(fee_in_quote) END AS fees_in_quote,
           count(DISTINCT coin) FILTER (is_market) AS coins, count(DISTINCT twap_id) AS twaps,
           min(time) AS first_fill, max(time) AS last_fill, list_sort(list_distinct(list(source))) AS sources
    FROM fills GROUP BY wallet
) JOIN {_SQL_FEES.format(key="wallet")} USING (wallet)
"""


def _by_duckdb(files: str) -> Tables:
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {THREADS}; SET TimeZone = 'UTC'")
        connection.execute(_SQL_FILLS.format(files=files))
        connection.execute(_SQL_TRADES)
        queries = {"candles": _SQL_CANDLES, "daily_stats": _SQL_DAILY, "user_stats": _SQL_USER}
        return {table: connection.sql(query).pl() for table, query in queries.items()}


_NO_TRADES = ["Spot Dust Conversion", "Net Child Vaults", "Settlement"]
_DOLLARS = ["USDC", "USDH", "USDT0", "USDE"]
_EXACT = pl.Decimal(38, 20)


def _read_fills(files: str) -> pl.DataFrame:
    coin, token, fee, px, sz = (pl.col(name) for name in ("coin", "fee_token", "fee", "px", "sz"))
    kind, extra = pl.col("kind"), pl.col("extra")
    pair = coin.str.split_exact("/", 1).struct
    is_pair = coin.str.contains("/", literal=True)
    names = (
        pl.scan_parquet(files, hive_partitioning=False)
        .select("coin")
        .unique()
        .with_columns(
            kind=pl.when(coin.str.contains(":", literal=True))
            .then(pl.lit("hip3"))
            .when(coin.str.starts_with("#"))
            .then(pl.lit("outcome"))
            .when(coin.str.starts_with("@") | is_pair)
            .then(pl.lit("spot"))
            .otherwise(pl.lit("perp")),
            base=pl.when(is_pair).then(pair.field("field_0")),
            quote=pl.when(is_pair).then(pair.field("field_1")),
        )
    )
    is_base = (
        (token == coin)
        | (token == pl.col("base"))
        | ((kind == "outcome") & (token == "+" + coin.str.slice(1)))
        | ((kind == "spot") & token.ne_missing(pl.col("quote")) & ((pl.col("side") == "B") == (fee >= 0)))
    )
    liquidation = pl.any_horizontal(pl.col("liquidated_user", "liquidation_mark_px", "liquidation_method").is_not_null())
    return (
        pl.scan_parquet(files, hive_partitioning=False)
        .join(names, on="coin", how="left", maintain_order="left")
        .with_row_index("place")
        .with_columns(
            is_market=(pl.col("tid") != 0)
            & ~(pl.col("dir").is_in(_NO_TRADES) | pl.col("dir").str.contains("^(Split|Merge|Negate) ")).fill_null(value=False),
            notional=px.cast(_EXACT) * sz,
            source=pl.col("object").str.split("/").list.first(),
            has_twap=pl.col("twap_id").is_not_null(),
            has_builder=pl.any_horizontal(pl.col("builder", "builder_fee").is_not_null())
            | extra.str.contains('"builder":', literal=True).fill_null(value=False),
            is_liquidation=liquidation | extra.str.contains('"liquidation":', literal=True).fill_null(value=False),
            fees_in_quote=pl.when(fee == 0)
            .then(0)
            .when(is_base)
            .then(fee.cast(_EXACT) * px)
            .when((kind != "outcome") | token.is_in(_DOLLARS))
            .then(fee.cast(_EXACT)),
        )
        .select(
            *("place", "time", "coin", "kind", "wallet", "side", "px", "sz", "crossed", "tid", "twap_id", "fee", "fee_token"),
            *("closed_pnl", "is_market", "notional", "source", "has_twap", "has_builder", "is_liquidation", "fees_in_quote"),
        )
        .collect()
    )


def _by_polars(files: str) -> Tables:
    fills = _read_fills(files)
    px, sz, fee, token = (pl.col(name) for name in ("px", "sz", "fee", "fee_token"))
    traded = fills.lazy().filter("is_market")
    trades = (
        traded.sort("crossed", descending=True, maintain_order=True)
        .group_by("time", "coin", "tid")
        .agg(
            pl.col("place").min(),
            pl.col("px", "sz", "notional", "side", "crossed").first(),
            pl.col("has_twap", "has_builder", "is_liquidation").any(),
        )
        .with_columns(taker_buys=(pl.col("side") == "B") == pl.col("crossed"))
        .sort("place")
        .collect()
        .lazy()
    )
    prices = {"open": px.first(), "high": px.max(), "low": px.min(), "close": px.last()}
    amounts = {"volume": sz.sum(), "notional": pl.col("notional").sum()}

    def amounts_where(**of: pl.Expr) -> dict[str, pl.Expr]:
        return {
            f"{name}_{sum_}": pl.col(column).filter(condition).sum()
            for name, condition in of.items()
            for sum_, column in (("volume", "sz"), ("notional", "notional"))
        }

    by_minute = trades.group_by("coin", pl.col("time").dt.truncate("1m")).agg(**prices, **amounts, trades=pl.len())
    buys, is_liquidation = pl.col("taker_buys"), pl.col("is_liquidation")
    by_coin = trades.group_by("coin").agg(
        **prices,
        **amounts,
        trades=pl.len(),
        buys=buys.sum(),
        sells=(~buys).sum(),
        liquidations=is_liquidation.sum(),
        liquidation_notional=pl.col("notional").filter(is_liquidation).sum(),
        **amounts_where(buy=buys, sell=~buys, twap=pl.col("has_twap"), builder=pl.col("has_builder")),
    )
    counts = {
        "fills": pl.col("is_market").sum(),
        "non_market_rows": (~pl.col("is_market")).sum(),
        "fees_known": fee.count(),
        "fees_in_quote": pl.when(pl.col("fees_in_quote").null_count() == 0).then(pl.col("fees_in_quote").sum()),
    }
    is_market, crossed = pl.col("is_market"), pl.col("crossed")
    of_coin = fills.lazy().group_by("coin", "kind").agg(**counts)
    wallets = traded.select("coin", "wallet").unique().group_by("coin").agg(wallets=pl.len())
    of_wallet = (
        fills.lazy()
        .group_by("wallet")
        .agg(
            **counts,
            maker_fills=(is_market & ~crossed).sum(),
            taker_fills=(is_market & crossed).sum(),
            maker_notional=pl.col("notional").filter(is_market & ~crossed).sum(),
            taker_notional=pl.col("notional").filter(is_market & crossed).sum(),
            closed_pnl=pl.col("closed_pnl").sum(),
            closed_pnl_known=pl.col("closed_pnl").count(),
            twaps=pl.col("twap_id").drop_nulls().n_unique(),
            first_fill=pl.col("time").min(),
            last_fill=pl.col("time").max(),
            sources=pl.col("source").unique().sort(),
        )
    )
    coins = traded.select("wallet", "coin").unique().group_by("wallet").agg(coins=pl.len())

    def fees_by(key: str) -> pl.LazyFrame:
        amount = fee.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
        listed = ('"' + token + '": "' + amount + '"').str.join(", ")
        by_token = fills.lazy().group_by(key, "fee_token").agg(fee.sum()).sort("fee_token")
        return by_token.group_by(key, maintain_order=True).agg(fees=pl.lit("{") + listed + pl.lit("}"))

    daily = of_coin.join(by_coin, "coin", "left").join(wallets, "coin", "left").join(fees_by("coin"), "coin", "left")
    zero = pl.all().exclude("coin", "kind", "fees", *prices, *counts).fill_null(0)
    user = (
        of_wallet.join(coins, "wallet", "left")
        .join(fees_by("wallet"), "wallet", "left")
        .with_columns(pl.col("coins").fill_null(0))
    )
    collected = pl.collect_all([by_minute, daily.with_columns(zero), user])
    return dict(zip(_SCHEMAS, collected, strict=True))
