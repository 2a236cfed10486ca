"""The data dictionary: all tables and, for each column, its type, unit, meaning and source.

The UI shows it (column schema and lineage), docs/reference/tables.md lists it, and a test compares it with the database and the lake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is PostgreSQL's. `comes_from` is either columns of the table's `upstream` (`asset.column` for another
    asset), or a field of the source's JSON in words.
    """

    name: str
    type: str
    unit: str
    meaning: str
    comes_from: tuple[str, ...] | str


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table. `upstream`: the asset that its columns come from."""

    upstream: str | None
    meaning: str
    columns: tuple[Column, ...]


# fmt: off
_COIN = "the coin"
_QUOTE = "the coin's quote"
_PX = "quote per coin"

FILL_COLUMNS = (
    Column("time", "timestamptz", "UTC, ms", "Time of the fill.", "`time`; node_trades: rounded down to ms"),
    Column("block_number", "bigint", "", "Block number. NULL: not in the source.", "`block_number` of node_fills_by_block"),
    Column("block_time_ns", "bigint", "ns since 1970, UTC", "Block time. NULL: not in the source (node_fills, info API).", "`block_time`; node_trades: `time`"),
    Column("coin", "text", "", "`BTC`, spot `@107` or `PURR/USDC`, HIP-3 `xyz:TSLA`, outcome `#1890`; case-sensitive.", "`coin`"),
    Column("wallet", "text", "", "Address, in lower case.", "`user`"),
    Column("side", "text", "", "`B`: bought, `A`: sold.", "`side`; node_trades: the first entry of side_info is the buyer"),
    Column("px", "numeric", _PX, "Price.", "`px`"),
    Column("sz", "numeric", _COIN, "Size.", "`sz`"),
    Column("start_position", "numeric", _COIN, "Position (spot: balance) before the fill; negative when short.", "`startPosition`"),
    Column("dir", "text", "", "Effect: `Open Long`, `Sell`, `Settlement`, …; an open set: new values may appear. NULL: unknown.", "`dir`"),
    Column("closed_pnl", "numeric", _QUOTE, "Realized profit or loss, without fees. NULL: unknown.", "`closedPnl`"),
    Column("hash", "bytea", "", "Transaction hash, 32 bytes; all zeros for TWAP slices and dust.", "`hash`"),
    Column("oid", "bigint", "", "ID of the order that was filled, fully or partly.", "`oid`"),
    Column("counterparty_oid", "bigint", "", "ID of the counterparty's order; only in node_trades.", "node_trades: `oid` of the other leg"),
    Column("crossed", "boolean", "", "True: taker. False: maker.", "`crossed`; node_trades: true if the leg has the trade's side"),
    Column("fee", "numeric", "fee_token", "Fee, including builder_fee and deployer_fee; negative for a rebate. NULL: unknown.", "`fee`"),
    Column("tid", "bigint", "", "Trade ID, shared by both legs. 0: dust. NULL: the fill is only in node_trades.", "`tid`"),
    Column("cloid", "bytea", "", "Client order ID, 16 bytes. NULL: none.", "`cloid`"),
    Column("fee_token", "text", "", "Token of the fee: USDC, HYPE, …", "`feeToken`"),
    Column("builder", "text", "", "Address of the builder that sent the order. NULL: none or unknown.", "`builder`"),
    Column("builder_fee", "numeric", "fee_token", "Part of `fee` that goes to the builder.", "`builderFee`"),
    Column("deployer_fee", "numeric", "fee_token", "Part of `fee` that goes to the market's deployer.", "`deployerFee`"),
    Column("priority_gas", "numeric", "HYPE", "Payment for priority; not part of `fee`.", "`priorityGas`"),
    Column("twap_id", "bigint", "", "ID of the TWAP, if the fill is a slice; only on the owner's leg.", "`twapId`"),
    Column("liquidated_user", "text", "", "Address of the liquidated user, on both legs. NULL: no liquidation, or not in the source.", "`liquidation.liquidatedUser`"),
    Column("liquidation_mark_px", "numeric", _PX, "Mark price at the liquidation.", "`liquidation.markPx`"),
    Column("liquidation_method", "text", "", "`market` or `backstop`.", "`liquidation.method`"),
    Column("extra", "json", "", "Data that fits no column: unknown fields, unusual values, and absent fields under `_missing`.", "all other fields"),
)

"""The columns that the lake and hl.fills share. Each comes from a field of the source."""

ORDINAL = Column("ordinal", "integer", "", "Position among the fills of its object, from 0. NULL: unknown, or loaded by version 0.1.0 (`hl rebuild` adds it).", "counted")

NOTIONAL = Column("notional", "numeric", _QUOTE, "px × sz, exact; only in compacted days. NULL: 18 digits before the point are too few.", ("px", "sz"))

FILLS_TABLE_ONLY = (
    Column("object_id", "integer", "", "Source object, as in hl.s3_ingest_log.", ("object",)),
    ORDINAL,
)

STATUS_COLUMNS = (
    Column("twap_id", "bigint", "", "TWAP ID; its slices have the same ID.", "`twap_id`"),
    Column("status", "text", "", "Kind of event: `activated`, `finished`, `terminated`, `error`, `waitingForTrigger`, `stopped`, …; an open set.", "`status`"),
    Column("error", "text", "", "Error text of the event. NULL: none.", "`status`"),
    Column("wallet", "text", "", "Address of the owner, in lower case.", "`state.user`"),
    Column("coin", "text", "", "Coin, as in hl.fills.", "`state.coin`"),
    Column("side", "text", "", "`B`: buys, `A`: sells.", "`state.side`"),
    Column("size_requested", "numeric", _COIN, "Requested size of the TWAP.", "`state.sz`"),
    Column("size_executed", "numeric", _COIN, "Executed size as reported by the node; 0 until the TWAP ends.", "`state.executedSz`"),
    Column("notional_executed", "numeric", _QUOTE, "Executed notional as reported by the node (px × sz).", "`state.executedNtl`"),
    Column("duration_minutes", "integer", "minutes", "Requested duration: 5 to 4,320.", "`state.minutes`"),
    Column("reduce_only", "boolean", "", "True: may only reduce a position.", "`state.reduceOnly`"),
    Column("randomize", "boolean", "", "True: its slices have random times.", "`state.randomize`"),
    Column("started_at", "timestamptz", "UTC", "When the TWAP was placed; the same in all its events.", "`state.timestamp`"),
    Column("time_ns", "bigint", "ns since 1970, UTC", "Time of the event, in the full precision of the source.", "`time`"),
)
"""The columns that the lake and hl.twap_statuses share."""

TABLES: dict[str, TableOf] = {
    "hl.fills": TableOf(
        "raw_fills",
        "Every fill once: one row per leg of a trade. Key: (time, coin, wallet, side, tid), or where tid is NULL, "
        "(time, coin, wallet, side, oid, counterparty_oid). Order of the source: (time, block_number, object_id, ordinal), NULLS LAST.",
        tuple(Column(c.name, c.type, c.unit, c.meaning, (c.name,)) for c in FILL_COLUMNS) + FILLS_TABLE_ONLY,
    ),
    "hl.candles": TableOf(
        "fills",
        "One row per coin and minute with a trade.",
        (
            Column("coin", "text", "", "Coin.", ("coin",)),
            Column("time", "timestamptz", "UTC", "Start of the minute.", ("time",)),
            Column("open", "numeric", _PX, "Price of the first trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("high", "numeric", _PX, "Highest price.", ("px",)),
            Column("low", "numeric", _PX, "Lowest price.", ("px",)),
            Column("close", "numeric", _PX, "Price of the last trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("volume", "numeric", _COIN, "Sum of trade sizes, each trade once.", ("sz", "tid")),
            Column("notional", "numeric", _QUOTE, "Sum of px × sz, each trade once.", ("px", "sz", "tid")),
            Column("trades", "bigint", "trades", "Number of trades.", ("tid",)),
            Column("date", "date", "UTC", "UTC day of `time`.", ("time",)),
        ),
    ),
    "hl.daily_stats": TableOf(
        "fills",
        "One row per day and coin with a fill.",
        (
            Column("date", "date", "UTC", "UTC day.", ("time",)),
            Column("coin", "text", "", "Coin.", ("coin",)),
            Column("kind", "text", "", "`perp`, `spot`, `hip3` or `outcome`, derived from the name.", ("coin",)),
            Column("fills", "bigint", "rows", "Number of fills that are legs of trades.", ("tid", "dir")),
            Column("non_market_rows", "bigint", "rows", "Number of fills that are not trades: dust, settlements, splits, merges, negations, child vaults.", ("tid", "dir")),
            Column("fees_known", "bigint", "rows", "Number of fills with a known fee. If below fills + non_market_rows, `fees` is NULL.", ("fee",)),
            Column("fees_in_quote", "numeric", _QUOTE, "Fees less rebates; fees in the coin itself are converted at the fill's px. NULL: the value of a fee is unknown.", ("fee", "fee_token", "px", "side")),
            Column("trades", "bigint", "trades", "Number of trades, by (time, coin, tid).", ("tid",)),
            Column("volume", "numeric", _COIN, "Sum of trade sizes, each trade once: the taker's leg, or the only leg.", ("sz", "tid")),
            Column("notional", "numeric", _QUOTE, "Sum of px × sz, each trade once.", ("px", "sz", "tid")),
            Column("buys", "bigint", "trades", "Number of trades whose taker bought.", ("side", "crossed")),
            Column("sells", "bigint", "trades", "Number of trades whose taker sold.", ("side", "crossed")),
            Column("buy_volume", "numeric", _COIN, "Part of `volume` whose taker bought.", ("sz", "side", "crossed")),
            Column("sell_volume", "numeric", _COIN, "Part of `volume` whose taker sold.", ("sz", "side", "crossed")),
            Column("buy_notional", "numeric", _QUOTE, "Part of `notional` whose taker bought.", ("px", "sz", "side", "crossed")),
            Column("sell_notional", "numeric", _QUOTE, "Part of `notional` whose taker sold.", ("px", "sz", "side", "crossed")),
            Column("liquidations", "bigint", "trades", "Number of liquidation trades: a leg has a `liquidation` field. NULL: a source does not have the field.", ("liquidated_user", "liquidation_mark_px", "liquidation_method", "extra")),
            Column("liquidation_notional", "numeric", _QUOTE, "Part of `notional` from liquidations.", ("px", "sz", "liquidated_user", "liquidation_mark_px", "liquidation_method", "extra")),
            Column("twap_volume", "numeric", _COIN, "Part of `volume` with a TWAP slice as a leg.", ("sz", "twap_id")),
            Column("twap_notional", "numeric", _QUOTE, "Part of `notional` with a TWAP slice as a leg.", ("px", "sz", "twap_id")),
            Column("builder_volume", "numeric", _COIN, "Part of `volume` with a leg sent by a builder. NULL: a source does not have the field.", ("sz", "builder", "builder_fee", "extra")),
            Column("builder_notional", "numeric", _QUOTE, "Part of `notional` with a leg sent by a builder.", ("px", "sz", "builder", "builder_fee", "extra")),
            Column("wallets", "bigint", "wallets", "Number of wallets with a leg of a trade.", ("wallet",)),
            Column("open", "numeric", _PX, "Price of the first trade, in the order of the source. NULL: no trade.", ("px", "time")),
            Column("high", "numeric", _PX, "Highest price.", ("px",)),
            Column("low", "numeric", _PX, "Lowest price.", ("px",)),
            Column("close", "numeric", _PX, "Price of the last trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("fees", "json", "each its token", "Fees less rebates by token, like `{\"USDC\": \"12.5\"}`. NULL: a fee is unknown.", ("fee", "fee_token")),
            Column("is_complete", "boolean", "", "Whether the day is whole and no line is in quarantine. NULL: its sources cannot prove it.", ("block_number",)),
            Column("vwap", "numeric", _PX, "notional / volume, rounded to ten decimals.", ("px", "sz")),
        ),
    ),
    "hl.user_stats": TableOf(
        "fills",
        "One row per day and wallet with a fill.",
        (
            Column("date", "date", "UTC", "UTC day.", ("time",)),
            Column("wallet", "text", "", "Address, in lower case.", ("wallet",)),
            Column("fills", "bigint", "rows", "Number of fills that are legs of trades.", ("tid", "dir")),
            Column("non_market_rows", "bigint", "rows", "Number of fills that are not trades.", ("tid", "dir")),
            Column("maker_fills", "bigint", "rows", "Number of `fills` as maker.", ("crossed",)),
            Column("taker_fills", "bigint", "rows", "Number of `fills` as taker.", ("crossed",)),
            Column("maker_notional", "numeric", "quote, all coins together", "Sum of px × sz of fills as maker.", ("px", "sz", "crossed")),
            Column("taker_notional", "numeric", "quote, all coins together", "Sum of px × sz of fills as taker.", ("px", "sz", "crossed")),
            Column("closed_pnl", "numeric", "quote, all coins together", "Realized profit or loss of all fills, without fees. NULL: unknown for a fill.", ("closed_pnl",)),
            Column("closed_pnl_known", "bigint", "rows", "Number of fills with a known closed_pnl.", ("closed_pnl",)),
            Column("fees_known", "bigint", "rows", "Number of fills with a known fee.", ("fee",)),
            Column("fees_in_quote", "numeric", "quote, all coins together", "Fees less rebates, each in the quote of its coin. NULL: the value of a fee is unknown.", ("fee", "fee_token", "coin", "px", "side")),
            Column("coins", "bigint", "coins", "Number of coins traded.", ("coin",)),
            Column("twaps", "bigint", "TWAPs", "Number of the wallet's TWAPs with a filled slice.", ("twap_id",)),
            Column("first_fill", "timestamptz", "UTC", "First fill of the day.", ("time",)),
            Column("last_fill", "timestamptz", "UTC", "Last fill of the day.", ("time",)),
            Column("fees", "json", "each its token", "Fees less rebates by token. NULL: a fee is unknown.", ("fee", "fee_token")),
            Column("sources", "text[]", "", "Datasets that its fills come from.", ("object_id",)),
            Column("is_complete", "boolean", "", "Whether the day is whole and no line is in quarantine. NULL: its sources cannot prove it.", ("block_number",)),
        ),
    ),
    "hl.builder_stats": TableOf(
        "fills",
        "One row per day, builder and coin with a fill that was sent by a builder.",
        (
            Column("date", "date", "UTC", "UTC day.", ("time",)),
            Column("builder", "text", "", "Address of the builder, in lower case. NULL: the source has its fee, but not its address.", ("builder",)),
            Column("coin", "text", "", "Coin.", ("coin",)),
            Column("fills", "bigint", "rows", "Number of fills that are legs of trades and were sent by the builder.", ("tid", "dir", "builder", "builder_fee", "extra")),
            Column("non_market_rows", "bigint", "rows", "Number of such fills that are not trades.", ("tid", "dir", "builder", "builder_fee", "extra")),
            Column("fills_with_fee", "bigint", "rows", "Number of such fills, trades or not, with a fee for the builder.", ("builder_fee",)),
            Column("notional", "numeric", _QUOTE, "Sum of px × sz of `fills`. A trade whose legs both have the builder counts twice.", ("px", "sz", "builder")),
            Column("fees_in_quote", "numeric", _QUOTE, "The builder's fees; those in the coin itself are converted at the fill's px. NULL: the value of a fee is unknown.", ("builder_fee", "fee", "fee_token", "coin", "px", "side")),
            Column("wallets", "bigint", "wallets", "Number of wallets with a leg of a trade sent by the builder.", ("wallet",)),
            Column("fees", "json", "each its token", "The builder's fees by token. NULL: a fee, or its token, is unknown.", ("builder_fee", "fee_token")),
            Column("is_complete", "boolean", "", "Whether the day is whole and no line is in quarantine. NULL: its sources cannot prove it.", ("block_number",)),
        ),
    ),
    "hl.twap_statuses": TableOf(
        "raw_twap_statuses",
        "Every event of every TWAP once. Key: (twap_id, status, time). Definitions: docs/twaps.md.",
        (
            *(Column(c.name, c.type, c.unit, c.meaning, (c.name,)) for c in STATUS_COLUMNS),
            Column("time", "timestamptz", "UTC, µs", "Time of the event, rounded down.", ("time_ns",)),
            Column("object", "text", "", "Key of the source object.", "the key"),
            Column("raw_payload", "jsonb", "", "The complete row of the source. If jsonb cannot hold it, it is a string under `_raw`.", ("raw",)),
            Column("inserted_at", "timestamptz", "UTC", "When the day was last loaded.", "the clock"),
            Column("date", "date", "UTC", "UTC day of `time`.", ("time_ns",)),
            Column("place", "smallint", "", "Order of simultaneous events: 0 waitingForTrigger, 1 activated, 2 any other.", ("status",)),
        ),
    ),
    "hl.twaps": TableOf(
        "twap_statuses",
        "One row per TWAP: statuses, slices and the market during its window. Formulas: docs/twaps.md.",
        (
            Column("twap_id", "bigint", "", "The TWAP.", ("twap_id", "fills.twap_id")),
            Column("wallet", "text", "", "Address of the owner.", ("wallet", "fills.wallet")),
            Column("coin", "text", "", "Coin.", ("coin", "fills.coin")),
            Column("side", "text", "", "`B`: buys, `A`: sells.", ("side", "fills.side")),
            Column("status", "text", "", "Last status. NULL: no status is known.", ("status", "time_ns")),
            Column("error", "text", "", "Error text of the last status.", ("error", "time_ns")),
            Column("verdict", "text", "", "Whether statuses and slices agree: `match`, `missing_fills`, `status_missing`, `running`, `failed`, …", ("size_executed", "fills.sz")),
            Column("started_at", "timestamptz", "UTC", "When the TWAP was placed.", ("started_at",)),
            Column("begins_at", "timestamptz", "UTC, ms", "When the TWAP began. NULL: not begun, or not in any source; then values derived from it are NULL.", ("time_ns", "started_at", "fills.time")),
            Column("planned_end", "timestamptz", "UTC, ms", "`begins_at` plus the requested duration.", ("time_ns", "duration_minutes")),
            Column("ended_at", "timestamptz", "UTC, ms", "When the TWAP ended. NULL: no status reports an end.", ("time_ns", "status")),
            Column("duration_minutes", "integer", "minutes", "Requested duration.", ("duration_minutes",)),
            Column("reduce_only", "boolean", "", "True: may only reduce a position.", ("reduce_only",)),
            Column("randomize", "boolean", "", "True: its slices have random times.", ("randomize",)),
            Column("statuses", "bigint", "rows", "Number of its events in hl.twap_statuses.", ("twap_id",)),
            Column("size_requested", "numeric", _COIN, "Requested size.", ("size_requested",)),
            Column("size_reported", "numeric", _COIN, "Executed size reported by the last status. NULL: not ended.", ("size_executed",)),
            Column("notional_reported", "numeric", _QUOTE, "Executed notional as reported by the node (px × sz).", ("notional_executed",)),
            Column("fills", "bigint", "rows", "Number of its fills.", ("fills.twap_id",)),
            Column("slices", "bigint", "orders", "Number of slices: distinct orders of its fills.", ("fills.oid",)),
            Column("slices_due", "bigint", "orders", "Expected number of slices: one every 30 s until the end of its window.", ("duration_minutes", "time_ns")),
            Column("size_observed", "numeric", _COIN, "Sum of sz of its fills.", ("fills.sz",)),
            Column("notional_observed", "numeric", _QUOTE, "Sum of px × sz of its fills.", ("fills.px", "fills.sz")),
            Column("first_slice_at", "timestamptz", "UTC", "First fill.", ("fills.time",)),
            Column("last_slice_at", "timestamptz", "UTC", "Last fill.", ("fills.time",)),
            Column("vwap", "numeric", _PX, "Average price of its fills.", ("fills.px", "fills.sz")),
            Column("whole_minutes", "bigint", "minutes", "Whole minutes of its window, which the market columns below cover. NULL: no window.", ("time_ns", "duration_minutes")),
            Column("market_volume", "numeric", _COIN, "Market volume of the coin.", ("candles.volume",)),
            Column("market_notional", "numeric", _QUOTE, "Market notional of the coin.", ("candles.notional",)),
            Column("market_vwap", "numeric", _PX, "Market average price of the coin.", ("candles.volume", "candles.notional")),
            Column("own_volume", "numeric", _COIN, "Sum of sz of the TWAP's fills in these minutes.", ("fills.sz", "fills.time")),
            Column("own_notional", "numeric", _QUOTE, "Sum of px × sz of the TWAP's fills in these minutes.", ("fills.px", "fills.sz", "fills.time")),
            Column("market_vwap_without_own", "numeric", _PX, "Market average price without the TWAP's fills.", ("candles.volume", "candles.notional", "fills.px", "fills.sz")),
            Column("participation", "numeric", "share", "own_volume / market_volume.", ("candles.volume", "fills.sz")),
            Column("arrival_px", "numeric", _PX, "Close of the last candle before the start, at most an hour old.", ("candles.close",)),
            Column("slippage_bps", "numeric", "basis points", "vwap against market_vwap; positive is worse for the owner.", ("candles.notional", "fills.px")),
            Column("slippage_without_own_bps", "numeric", "basis points", "vwap against market_vwap_without_own.", ("candles.notional", "fills.px")),
            Column("slippage_arrival_bps", "numeric", "basis points", "vwap against arrival_px.", ("candles.close", "fills.px")),
            Column("schedule_deviation", "numeric", "share of the size", "Largest deviation from a linear schedule.", ("size_requested", "fills.time", "fills.sz")),
            Column("maker_share", "numeric", "share", "Share of its size filled as maker.", ("fills.crossed", "fills.sz")),
            Column("fees", "json", "each its token", "Fees less rebates by token. NULL: a fee is unknown.", ("fills.fee", "fills.fee_token")),
            Column("closed_pnl", "numeric", _QUOTE, "Realized profit or loss. NULL: unknown for a fill.", ("fills.closed_pnl",)),
            Column("is_complete", "boolean", "", "Whether all fills of its window's days are loaded. NULL: the sources cannot prove it.", "hl.fills_days"),
            Column("seen_from", "timestamptz", "UTC", "Start of the data that the row depends on.", ("time_ns", "fills.time")),
            Column("seen_to", "timestamptz", "UTC", "End of the data that the row depends on.", ("time_ns", "fills.time")),
        ),
    ),
    "hl.twap_days": TableOf(
        None,
        "Loaded days of TWAP statuses.",
        (
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("state", "text", "", "Verdict when loaded: `unprovable`, `pending`, `incomplete` or `no source`.", "computed"),
            Column("explanation", "text", "", "Reason for the state.", "computed"),
            Column("objects", "bigint", "objects", "Number of objects with events of the day.", "counted"),
            Column("rows", "bigint", "rows", "Number of events.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake dropped because they repeat an event.", "counted"),
            Column("conflicts", "bigint", "rows", "Duplicates that contradict the kept event.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When the day was loaded.", "the clock"),
            Column("twaps_at", "timestamptz", "UTC", "When hl.twaps was last computed from these statuses. NULL: not since the day was loaded.", "the clock"),
        ),
    ),
    "hl.twap_slice_days": TableOf(
        None,
        "Days on which a TWAP has slices.",
        (
            Column("twap_id", "bigint", "", "The TWAP.", "`twapId`"),
            Column("date", "date", "UTC", "UTC day.", "`time`"),
        ),
    ),
    "hl.s3_ingest_log": TableOf(
        None,
        "Ledger of objects: one row per object. An object is an hour of a fills dataset, a day of a shard from the info API (`source` api_fills), or an object of TWAP statuses (twap_statuses).",
        (
            Column("object_id", "integer", "", "Object ID: 1,000,000 (node_trades), 2,000,000 (node_fills) or 3,000,000 (node_fills_by_block) plus hours since 2023; info API: 4,000,000 + 256 × days since 2023 + shard. NULL: no fills.", "assigned"),
            Column("object_key", "text", "", "Key in the bucket.", "LIST"),
            Column("source", "text", "", "Dataset.", "the key"),
            Column("object_date", "date", "UTC", "Day in the key.", "the key"),
            Column("object_hour", "smallint", "UTC", "Hour in the key. NULL: none.", "the key"),
            Column("etag", "text", "", "ETag of the version in the lake. NULL: not in the lake.", "LIST"),
            Column("size_bytes", "bigint", "bytes", "Compressed size.", "LIST"),
            Column("parser", "integer", "", "Parser version.", "assigned"),
            Column("rows", "bigint", "rows", "Number of fills or statuses.", "counted"),
            Column("bad_lines", "bigint", "lines or events", "Number in quarantine, in a file next to the object's in the lake.", "counted"),
            Column("first_block", "bigint", "", "Lowest block number.", "`block_number`"),
            Column("last_block", "bigint", "", "Highest block number.", "`block_number`"),
            Column("missing_blocks", "bigint", "blocks", "Number of blocks missing between the two.", "counted"),
            Column("first_time", "timestamptz", "UTC, s", "Earliest time in the object.", "times of its blocks, fills or statuses"),
            Column("last_time", "timestamptz", "UTC, s", "Latest time in the object.", "times of its blocks, fills or statuses"),
            Column("fetched_at", "timestamptz", "UTC", "When it was written to the lake.", "the clock"),
            Column("loaded_at", "timestamptz", "UTC", "When a day was last loaded from it.", "the clock"),
            Column("error", "text", "", "Why fetching failed; cleared when it succeeds.", "generated"),
            Column("error_at", "timestamptz", "UTC", "When it failed.", "the clock"),
            Column("reset_of", "timestamptz", "UTC", "`fetched_at` of the version that `hl reset checkpoint` marked for replacement: the next run downloads the object again. NULL: no mark.", "user"),
        ),
    ),
    "hl.s3_requests": TableOf(
        None,
        "Ledger of spending: one row per request to a requester-pays bucket, including retries and failures.",
        (
            Column("id", "bigint", "", "Sequence number.", "assigned"),
            Column("at", "timestamptz", "UTC", "Just before the request was sent.", "the clock"),
            Column("bucket", "text", "", "Bucket name.", "HL_NODE_DATA_URL, HL_TWAP_DATA_URL"),
            Column("method", "text", "", "`LIST` (a page) or `GET`.", "request"),
            Column("key", "text", "", "Key of the object, or the listed prefix.", "request"),
            Column("status", "smallint", "", "HTTP status. NULL: no response.", "the answer"),
            Column("bytes", "bigint", "bytes", "Bytes of the body received; while `error` is `not finished`, the expected bytes.", "counted"),
            Column("dollars", "numeric", "USD", "Cost by the prices in the settings. Before the request: its maximum cost.", "computed"),
            Column("error", "text", "", "Error text. `not finished`: in progress, or killed. NULL: no error.", "generated"),
            Column("seconds", "double precision", "s", "Duration.", "the clock"),
            Column("run_id", "text", "", "ID of the Dagster run.", "Dagster"),
        ),
    ),
    "hl.info_calls": TableOf(
        None,
        "Calls to the info API in progress or within the last minute. Their total weight stays below HL_INFO_WEIGHT_PER_MINUTE.",
        (
            Column("id", "bigint", "", "Sequence number.", "assigned"),
            Column("egress", "text", "", "Egress address of the call.", "HL_EGRESS"),
            Column("weight", "integer", "", "Weight; of a call in progress, its maximum.", "20, plus 1 per 20 items"),
            Column("counts_until", "timestamptz", "UTC", "When the call leaves the one-minute window.", "the clock"),
        ),
    ),
    "hl.info_egresses": TableOf(
        None,
        "Egress addresses that the info API has rate-limited.",
        (
            Column("egress", "text", "", "Egress address.", "HL_EGRESS"),
            Column("blocked_until", "timestamptz", "UTC", "No call from this address before this time.", "429, `Retry-After`"),
        ),
    ),
    "hl.backfill_progress": TableOf(
        None,
        "Backfill progress per wallet, and whether its window is complete (docs/guides/backfill-wallets.md).",
        (
            Column("wallet", "text", "", "Address, in lower case.", "hl.user_stats or user"),
            Column("shard", "smallint", "", "Shard, 0 to 255.", "the first byte of sha256 of the address"),
            Column("state", "text", "", "`pending`, `started`, `complete`, `truncated` (older fills may be missing) or `failed` (see error).", "computed"),
            Column("window_start", "timestamptz", "UTC", "Start of the requested window. NULL: never requested.", "HL_BACKFILL_FROM"),
            Column("window_end", "timestamptz", "UTC", "End of the window, exclusive.", "HL_BACKFILL_TO"),
            Column("fills_next", "timestamptz", "UTC, ms", "Start of the next page of fills. NULL: start of the window, or no page left.", "`time`"),
            Column("slices_next", "timestamptz", "UTC, ms", "Start of the next page of TWAP slices.", "`time`"),
            Column("fills_walked", "boolean", "", "Whether the last page of fills was fetched.", "computed"),
            Column("slices_walked", "boolean", "", "Whether the last page of TWAP slices was fetched.", "computed"),
            Column("oldest", "timestamptz", "UTC, ms", "Oldest fetched fill. If truncated, fills before it may be missing.", "`time`"),
            Column("newest", "timestamptz", "UTC, ms", "Newest fetched fill.", "`time`"),
            Column("fills", "bigint", "rows", "Number of fills and slices fetched.", "counted"),
            Column("bad", "bigint", "items", "Number of rejected items, listed in hl.backfill_bad.", "counted"),
            Column("crowded", "bigint[]", "ms since 1970, UTC", "Milliseconds that filled a whole page, so that more fills may exist.", "`time`"),
            Column("requests", "bigint", "", "Number of API calls.", "counted"),
            Column("weight", "bigint", "", "Weight of these calls.", "20, plus 1 per 20 items"),
            Column("reason", "text", "", "Why the wallet is truncated.", "computed"),
            Column("error", "text", "", "Why it failed.", "generated"),
            Column("started_at", "timestamptz", "UTC", "When the first request was made.", "the clock"),
            Column("ended_at", "timestamptz", "UTC", "When the backfill finished or failed.", "the clock"),
            Column("statuses", "bigint", "rows", "Number of statuses from `twapHistory` that match a TWAP.", "counted"),
            Column("history_error", "text", "", "Why `twapHistory` failed.", "generated"),
            Column("history_at", "timestamptz", "UTC", "When `twapHistory` was fetched. NULL: not yet, or it failed.", "the clock"),
        ),
    ),
    "hl.backfill_pages": TableOf(
        None,
        "Pages of the info API not yet written to the lake.",
        (
            Column("wallet", "text", "", "Wallet.", "request"),
            Column("kind", "text", "", "`fills` or `twap_slices`.", "request"),
            Column("page", "integer", "", "Page number, from 1.", "assigned"),
            Column("rows", "integer", "rows", "Number of fills that no earlier page has.", "counted"),
            Column("fills", "bytea", "", "These fills, as Parquet.", "the page"),
        ),
    ),
    "hl.backfill_bad": TableOf(
        None,
        "Rejected items of the info API; also in the lake, `api_fills/shard=XX.bad.jsonl`.",
        (
            Column("wallet", "text", "", "Wallet.", "request"),
            Column("kind", "text", "", "`fills`, `twap_slices` or `twap_history`.", "request"),
            Column("reason", "text", "", "Why the item was rejected.", "generated"),
            Column("item", "bytea", "", "Item as JSON.", "the page"),
            Column("digest", "bytea", "", "sha256 of the item.", "item"),
        ),
    ),
    "hl.coverage": TableOf(
        None,
        "Completeness: one row per dataset, day and hour of the bucket that a day has requested.",
        (
            Column("source", "text", "", "Dataset: `node_trades`, `node_fills`, `node_fills_by_block` or `twap_statuses`.", "the key"),
            Column("object_date", "date", "UTC", "Day in the key.", "the key"),
            Column("object_hour", "smallint", "UTC", "Hour in the key. NULL: all objects of the day without an hour (statuses in Parquet).", "the key"),
            Column("expected", "boolean", "", "Whether a missing object is a hole. False: a better dataset has all its fills.", "computed"),
            Column("found", "text", "", "`present`, `unprovable` (present, but its format cannot prove that no row is missing), `not due`, `missing`, `failed` (an error), `blocks missing` (in it or before it).", "computed"),
            Column("is_hole", "boolean", "", "Whether `found` is a hole.", "found, expected"),
            Column("note", "text", "", "Note in hl.acknowledged. NULL: none.", "hl.acknowledged"),
            Column("state", "text", "", "`found`, or `acknowledged` for a hole with a note.", "found, note"),
            Column("why", "text", "", "Reason, if the object is missing or incomplete.", "computed"),
            Column("object_key", "text", "", "Key in the bucket (of several status objects: all keys) of the version in the lake. NULL: none.", "LIST"),
            Column("etag", "text", "", "ETag of that version.", "LIST"),
            Column("rows", "bigint", "rows", "Number of fills or statuses.", "counted"),
            Column("bad_lines", "bigint", "lines or events", "Number in quarantine.", "counted"),
            Column("first_block", "bigint", "", "Lowest block number.", "`block_number`"),
            Column("last_block", "bigint", "", "Highest block number.", "`block_number`"),
            Column("missing_ranges", "int8multirange", "", "Block numbers missing in it, or between it and the previous hour's object, that no adjacent object has.", "counted"),
            Column("missing_blocks", "bigint", "blocks", "Number of missing blocks.", "counted"),
            Column("fetched_at", "timestamptz", "UTC", "When it was written to the lake.", "the clock"),
            Column("judged_at", "timestamptz", "UTC", "When this row was computed.", "the clock"),
        ),
    ),
    "hl.acknowledged": TableOf(
        None,
        "Acknowledged holes, which cannot be filled (`hl acknowledge`).",
        (
            Column("source", "text", "", "As in hl.coverage.", "user"),
            Column("object_date", "date", "UTC", "As in hl.coverage.", "user"),
            Column("object_hour", "smallint", "UTC", "As in hl.coverage. NULL: every gap in the day, including future ones.", "user"),
            Column("note", "text", "", "Reason given by the user.", "user"),
            Column("at", "timestamptz", "UTC", "When it was acknowledged.", "the clock"),
        ),
    ),
    "hl.dirty_days": TableOf(
        None,
        "Days whose fills in hl.fills are older than the lake, until they are loaded again (`hl ingest --dirty`).",
        (
            Column("date", "date", "UTC", "UTC day.", "request"),
            Column("reason", "text", "", "Latest reason.", "generated"),
            Column("noted_at", "timestamptz", "UTC", "When the day was added.", "the clock"),
        ),
    ),
    "hl.workers": TableOf(
        None,
        "Workers that take runs (`hl worker`). One that ends, or is told to, removes its row.",
        (
            Column("worker", "text", "", "Name of the worker: its host and a random part.", "generated"),
            Column("code", "text", "", "Version and digest of its code. It refuses runs that other code launched.", "computed"),
            Column("slots", "integer", "runs", "How many runs it takes at once.", "HL_RUNS_AT_ONCE"),
            Column("started_at", "timestamptz", "UTC", "When it connected first.", "the clock"),
            Column("beat_at", "timestamptz", "UTC", "Its last heartbeat.", "the clock"),
        ),
    ),
    "hl.worker_runs": TableOf(
        None,
        "Runs in progress on workers. A run that is presumed dead has no row, and stops if it is alive after all.",
        (
            Column("run_id", "text", "", "ID of Dagster's run.", "Dagster"),
            Column("worker", "text", "", "The worker that executes it.", "generated"),
            Column("must_stop", "boolean", "", "Whether a user terminates it.", "user"),
            Column("started_at", "timestamptz", "UTC", "When the worker took it.", "the clock"),
            Column("beat_at", "timestamptz", "UTC", "Its last heartbeat.", "the clock"),
        ),
    ),
    "hl.fills_days": TableOf(
        None,
        "Loaded days of fills.",
        (
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("rows", "bigint", "rows", "Number of fills.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake dropped because they repeat a fill.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When the day was loaded.", "the clock"),
            Column("state", "text", "", "Verdict when loaded: `whole`, `unprovable`, `pending`, `incomplete` or `no source`.", "computed"),
            Column("explanation", "text", "", "Reason for the state.", "computed"),
            Column("edges", "text[]", "", "Midnights of the day that no object crosses, in words.", "computed"),
            Column("thinned_at", "timestamptz", "UTC", "When its rows were removed from hl.fills; the lake keeps them. NULL: not removed.", "the clock"),
            Column("candles_at", "timestamptz", "UTC", "When hl.candles was last computed from these fills. NULL: not since the day was loaded.", "the clock"),
            Column("daily_stats_at", "timestamptz", "UTC", "The same for hl.daily_stats.", "the clock"),
            Column("user_stats_at", "timestamptz", "UTC", "The same for hl.user_stats.", "the clock"),
            Column("builder_stats_at", "timestamptz", "UTC", "The same for hl.builder_stats.", "the clock"),
            Column("twaps_at", "timestamptz", "UTC", "The same for hl.twaps.", "the clock"),
        ),
    ),
    "hl.lake_days": TableOf(
        None,
        "Days in the lake's Apache Iceberg tables. A day of fills is current if `loaded_at` equals that of hl.fills_days.",
        (
            Column("table_name", "text", "", "Iceberg table in the namespace `hl`: `fills`, …", "generated"),
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("files", "text[]", "", "Data files of the day, relative to the lake. Their content never changes.", "generated"),
            Column("rows", "bigint", "rows", "Number of rows.", "counted"),
            Column("bytes", "bigint", "bytes", "Size of the files.", "counted"),
            Column("snapshot_id", "bigint", "", "Snapshot that published the files.", "assigned"),
            Column("state", "text", "", "Verdict of the day when it was compacted, as in hl.fills_days.", "hl.fills_days"),
            Column("made_from", "text", "", "Digest of the day's objects and their versions.", "computed"),
            Column("loaded_at", "timestamptz", "UTC", "The load whose rows the files have.", "hl.fills_days"),
            Column("notional", "numeric", _QUOTE, "Sum of px × sz. NULL: the table has no notional.", "computed"),
            Column("notional_unknown", "bigint", "rows", "Rows whose notional does not fit numeric(38,20); not in the sum.", "counted"),
            Column("compacted_at", "timestamptz", "UTC", "When the day was recorded.", "the clock"),
        ),
    ),
    "hl.fills_hours": TableOf(
        None,
        "Hours of each day with fills. Days loaded before this table existed have no rows.",
        (
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("hour", "smallint", "UTC", "Hour of the event, 0 to 23.", "`time`"),
            Column("rows", "bigint", "rows", "Number of fills.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake dropped because they repeat a fill.", "counted"),
            Column("conflicts", "bigint", "rows", "Duplicates that contradict the kept fill.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When the day was loaded.", "the clock"),
            Column("repeated", "bigint", "rows", "Rows in the lake's `fills/` that repeat a fill; always 0 unless there is a fault.", "counted"),
            Column("trades", "bigint", "trades", "Number of trades.", "counted"),
            Column("single_legs", "bigint", "trades", "Trades with only one leg present.", "counted"),
            Column("crowded", "bigint", "trades", "Trades whose legs do not form a pair.", "counted"),
            Column("proven_at", "timestamptz", "UTC", "When the lake and hl.fills were verified to have the same rows. NULL: not since the hour was loaded.", "the clock"),
            Column("candles_at", "timestamptz", "UTC", "When its candles were computed. NULL: not since the hour was loaded.", "the clock"),
        ),
    ),
    "hl.fills_day_objects": TableOf(
        None,
        "Objects that each loaded day has rows from.",
        (
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("object_id", "integer", "", "Object, as in hl.s3_ingest_log.", "assigned"),
            Column("etag", "text", "", "ETag when the day was loaded.", "LIST"),
            Column("parser", "integer", "", "Parser version when the day was loaded. NULL: unknown.", "assigned"),
            Column("rows", "bigint", "rows", "Number of rows of the day from this object.", "counted"),
        ),
    ),
    "hl.twap_day_objects": TableOf(
        None,
        "Objects that each loaded day of TWAP statuses has events from.",
        (
            Column("date", "date", "UTC", "UTC day.", "the partition"),
            Column("object_key", "text", "", "Key of the object, as in hl.s3_ingest_log.", "LIST"),
            Column("etag", "text", "", "ETag when the day was loaded.", "LIST"),
        ),
    ),
}

LAKE_ONLY = (
    Column("local_time_ns", "bigint", "ns since 1970, UTC", "When the node wrote the block, by its own clock. It decides the hour of the object.", "`local_time`"),
    Column("line", "bigint", "", "Line in the object, from 1. In `api_fills/`: position among the shard's fills of the day, in API order. NULL: unknown.", "counted"),
    Column("object", "text", "", "Key of the object. Not in `raw_fills/`, where each file is one object.", "the key"),
)
"""Columns of the lake's fills beyond those of hl.fills (which has `object_id` in place of `object`)."""

COMPACTED_ONLY = (
    Column("notional", "numeric", _QUOTE, "px × sz, exactly. NULL: it does not fit numeric(38,20).", "`px`, `sz`"),
)
"""Columns of a compacted day of fills beyond those of the lake's hours."""

STATUS_LAKE_ONLY = (
    Column("block_number", "bigint", "", "Block number. NULL: not in the source.", "`block_number`"),
    Column("line", "bigint", "", "Line or row in the object, from 1.", "counted"),
    Column("raw", "text", "", "The complete row of the source, as JSON.", "the row"),
)
"""Columns of the lake's statuses beyond those of hl.twap_statuses."""

# fmt: on
