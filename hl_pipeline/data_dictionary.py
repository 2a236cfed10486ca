"""The data dictionary: every table, and of each column its type, unit, meaning and what it comes from.

The UI shows it (column schema and lineage), docs/reference/tables.md lists it, and a test holds it against the database and the lake.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """`type` is PostgreSQL's; `comes_from`: columns of the table's `upstream` (`asset.column`: of another asset), else a field of
    the source's JSON in words.
    """

    name: str
    type: str
    unit: str
    meaning: str
    comes_from: tuple[str, ...] | str


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table; `upstream`: the asset that its columns come from."""

    upstream: str | None
    meaning: str
    columns: tuple[Column, ...]


# fmt: off
_COIN = "the coin"
_QUOTE = "the coin's quote"
_PX = "quote per coin"

FILL_COLUMNS = (
    Column("time", "timestamptz", "UTC, ms", "When it happened.", "`time`; of node_trades: rounded down to ms"),
    Column("block_number", "bigint", "", "Number of its block. NULL: the source has none.", "`block_number` of node_fills_by_block"),
    Column("block_time_ns", "bigint", "ns since 1970, UTC", "Time of its block. NULL in node_fills.", "`block_time`; `time` of node_trades"),
    Column("coin", "text", "", "`BTC`, spot `@107` or `PURR/USDC`, HIP-3 `xyz:TSLA`, outcome `#1890`; case matters.", "`coin`"),
    Column("wallet", "text", "", "The address, lower case.", "`user`"),
    Column("side", "text", "", "`B`: bought, `A`: sold.", "`side`; of node_trades: the first of side_info bought"),
    Column("px", "numeric", _PX, "Price.", "`px`"),
    Column("sz", "numeric", _COIN, "Size.", "`sz`"),
    Column("start_position", "numeric", _COIN, "Position (spot: balance) before the fill, negative when short.", "`startPosition`"),
    Column("dir", "text", "", "What it did: `Open Long`, `Sell`, `Settlement`, …; an open set. NULL: unknown.", "`dir`"),
    Column("closed_pnl", "numeric", _QUOTE, "Profit or loss realized, fees not in it. NULL: unknown.", "`closedPnl`"),
    Column("hash", "bytea", "", "Transaction, 32 bytes; all zero on TWAP slices and on dust.", "`hash`"),
    Column("oid", "bigint", "", "Order that it filled, wholly or in part.", "`oid`"),
    Column("counterparty_oid", "bigint", "", "The order that it met; known for node_trades alone.", "`oid` of the other leg in node_trades"),
    Column("crossed", "boolean", "", "True: the taker.", "`crossed`; of node_trades: whether its side is the trade's"),
    Column("fee", "numeric", "fee_token", "Fee, negative for a rebate; builder_fee and deployer_fee are in it. NULL: unknown.", "`fee`"),
    Column("tid", "bigint", "", "Its trade, which both legs share; 0: dust; NULL: known from node_trades alone.", "`tid`"),
    Column("cloid", "bytea", "", "The client's own order id, 16 bytes. NULL: none.", "`cloid`"),
    Column("fee_token", "text", "", "Token of the fee: USDC, HYPE, …", "`feeToken`"),
    Column("builder", "text", "", "Address of the builder that sent the order. NULL: none, or unknown.", "`builder`"),
    Column("builder_fee", "numeric", "fee_token", "The part of fee that goes to the builder.", "`builderFee`"),
    Column("deployer_fee", "numeric", "fee_token", "The part of fee that goes to the market's deployer.", "`deployerFee`"),
    Column("priority_gas", "numeric", "HYPE", "Paid for priority, apart from fee.", "`priorityGas`"),
    Column("twap_id", "bigint", "", "The TWAP that it is a slice of; on its owner's leg only.", "`twapId`"),
    Column("liquidated_user", "text", "", "Who was liquidated, on both legs of a liquidation. NULL: no liquidation, or it does not say.", "`liquidation.liquidatedUser`"),
    Column("liquidation_mark_px", "numeric", _PX, "Mark price at the liquidation.", "`liquidation.markPx`"),
    Column("liquidation_method", "text", "", "`market` or `backstop`.", "`liquidation.method`"),
    Column("extra", "json", "", "What the columns cannot hold: unknown fields, odd values, under `_missing` what was not there.", "the rest"),
)

"""The columns of a fill that lake and hl.fills both have; what they come from is a field of the source."""

ORDINAL = Column("ordinal", "integer", "", "Its place among the fills of its object, from 0. NULL: not known, or not since version 0.1.0: `hl rebuild`.", "counted")

FILLS_TABLE_ONLY = (
    Column("object_id", "integer", "", "The object that it came from: hl.s3_ingest_log.", ("object",)),
    ORDINAL,
)

STATUS_COLUMNS = (
    Column("twap_id", "bigint", "", "The TWAP; slices carry the same number.", "`twap_id`"),
    Column("status", "text", "", "Kind of event: `activated`, `finished`, `terminated`, `error`, `waitingForTrigger`, `stopped`, …; an open set.", "`status`"),
    Column("error", "text", "", "The text that came with it. NULL: none.", "`status`"),
    Column("wallet", "text", "", "The owner's address, lower case.", "`state.user`"),
    Column("coin", "text", "", "As in hl.fills.", "`state.coin`"),
    Column("side", "text", "", "`B`: it buys, `A`: it sells.", "`state.side`"),
    Column("size_requested", "numeric", _COIN, "Size of the whole TWAP.", "`state.sz`"),
    Column("size_executed", "numeric", _COIN, "What the node says has been executed; 0 until the TWAP ends.", "`state.executedSz`"),
    Column("notional_executed", "numeric", _QUOTE, "The same, px × sz.", "`state.executedNtl`"),
    Column("duration_minutes", "integer", "minutes", "For how long it is to run: 5 to 4,320.", "`state.minutes`"),
    Column("reduce_only", "boolean", "", "It may only reduce a position.", "`state.reduceOnly`"),
    Column("randomize", "boolean", "", "Its slices go out at random times.", "`state.randomize`"),
    Column("started_at", "timestamptz", "UTC", "When it was placed; the same in all its events.", "`state.timestamp`"),
    Column("time_ns", "bigint", "ns since 1970, UTC", "When the event happened, to the last digit that the source has.", "`time`"),
)
"""The columns of a status that lake and hl.twap_statuses both have."""

TABLES: dict[str, TableOf] = {
    "hl.fills": TableOf(
        "raw_fills",
        "Every fill once: one row a leg of a trade. A fill is (time, coin, wallet, side, tid); where tid is NULL, "
        "(time, coin, wallet, side, oid, counterparty_oid). The order of the source is (time, block_number, object_id, ordinal), NULL last.",
        tuple(Column(c.name, c.type, c.unit, c.meaning, (c.name,)) for c in FILL_COLUMNS) + FILLS_TABLE_ONLY,
    ),
    "hl.candles": TableOf(
        "fills",
        "One row per coin and minute in which it was traded.",
        (
            Column("coin", "text", "", "The coin.", ("coin",)),
            Column("time", "timestamptz", "UTC", "The minute's beginning.", ("time",)),
            Column("open", "numeric", _PX, "Price of the first trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("high", "numeric", _PX, "Highest price.", ("px",)),
            Column("low", "numeric", _PX, "Lowest price.", ("px",)),
            Column("close", "numeric", _PX, "Price of the last trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("volume", "numeric", _COIN, "Sum of the sizes, each trade once.", ("sz", "tid")),
            Column("notional", "numeric", _QUOTE, "px × sz of the trades, each trade once.", ("px", "sz", "tid")),
            Column("trades", "bigint", "trades", "How many.", ("tid",)),
            Column("date", "date", "UTC", "The day of `time`.", ("time",)),
        ),
    ),
    "hl.daily_stats": TableOf(
        "fills",
        "One row per day and coin that had a fill.",
        (
            Column("date", "date", "UTC", "The day.", ("time",)),
            Column("coin", "text", "", "The coin.", ("coin",)),
            Column("kind", "text", "", "`perp`, `spot`, `hip3` or `outcome`, by the form of the name.", ("coin",)),
            Column("fills", "bigint", "rows", "Fills that are legs of trades.", ("tid", "dir")),
            Column("non_market_rows", "bigint", "rows", "Fills that are no trades: dust, settlements, splits, merges, negations, child vaults.", ("tid", "dir")),
            Column("fees_known", "bigint", "rows", "Fills whose fee is known; fewer than fills + non_market_rows: `fees` is NULL.", ("fee",)),
            Column("fees_in_quote", "numeric", _QUOTE, "All fees and rebates, those in the coin itself at the fill's px; NULL where a part cannot be known.", ("fee", "fee_token", "px", "side")),
            Column("trades", "bigint", "trades", "Trades: one (time, coin, tid).", ("tid",)),
            Column("volume", "numeric", _COIN, "Sizes of the trades, each once: the taker's leg, else the only one.", ("sz", "tid")),
            Column("notional", "numeric", _QUOTE, "px × sz of the trades, each once.", ("px", "sz", "tid")),
            Column("buys", "bigint", "trades", "Trades whose taker bought.", ("side", "crossed")),
            Column("sells", "bigint", "trades", "Trades whose taker sold.", ("side", "crossed")),
            Column("buy_volume", "numeric", _COIN, "Of `volume`: the taker bought.", ("sz", "side", "crossed")),
            Column("sell_volume", "numeric", _COIN, "Of `volume`: the taker sold.", ("sz", "side", "crossed")),
            Column("buy_notional", "numeric", _QUOTE, "Of `notional`: the taker bought.", ("px", "sz", "side", "crossed")),
            Column("sell_notional", "numeric", _QUOTE, "Of `notional`: the taker sold.", ("px", "sz", "side", "crossed")),
            Column("liquidations", "bigint", "trades", "Trades that liquidated somebody: a leg has a `liquidation`, whatever it says. NULL: a source does not know.", ("liquidated_user", "liquidation_mark_px", "liquidation_method", "extra")),
            Column("liquidation_notional", "numeric", _QUOTE, "Of `notional`: these.", ("px", "sz", "liquidated_user", "liquidation_mark_px", "liquidation_method", "extra")),
            Column("twap_volume", "numeric", _COIN, "Of `volume`: a leg was a TWAP's slice.", ("sz", "twap_id")),
            Column("twap_notional", "numeric", _QUOTE, "Of `notional`: these.", ("px", "sz", "twap_id")),
            Column("builder_volume", "numeric", _COIN, "Of `volume`: a leg came through a builder. NULL: a source does not know.", ("sz", "builder", "builder_fee", "extra")),
            Column("builder_notional", "numeric", _QUOTE, "Of `notional`: these.", ("px", "sz", "builder", "builder_fee", "extra")),
            Column("wallets", "bigint", "wallets", "Wallets with a leg of a trade.", ("wallet",)),
            Column("open", "numeric", _PX, "Price of the first trade; NULL: none.", ("px", "time")),
            Column("high", "numeric", _PX, "Highest price.", ("px",)),
            Column("low", "numeric", _PX, "Lowest price.", ("px",)),
            Column("close", "numeric", _PX, "Price of the last trade, in the order of the source.", ("px", "time", "block_number", "object_id", "ordinal")),
            Column("fees", "json", "each its token", "Fees less rebates of all fills by token, like `{\"USDC\": \"12.5\"}`; NULL where one is unknown.", ("fee", "fee_token")),
            Column("is_complete", "boolean", "", "Whether the day is whole and nothing of it in quarantine; NULL: its sources have nothing that could prove it.", ("block_number",)),
            Column("vwap", "numeric", _PX, "notional / volume, rounded to ten decimals.", ("px", "sz")),
        ),
    ),
    "hl.user_stats": TableOf(
        "fills",
        "One row per day and wallet that had a fill.",
        (
            Column("date", "date", "UTC", "The day.", ("time",)),
            Column("wallet", "text", "", "The address, lower case.", ("wallet",)),
            Column("fills", "bigint", "rows", "Fills that are legs of trades.", ("tid", "dir")),
            Column("non_market_rows", "bigint", "rows", "Fills that are no trades.", ("tid", "dir")),
            Column("maker_fills", "bigint", "rows", "Of `fills`: as maker.", ("crossed",)),
            Column("taker_fills", "bigint", "rows", "Of `fills`: as taker.", ("crossed",)),
            Column("maker_notional", "numeric", "quote, all coins together", "px × sz of the fills as maker.", ("px", "sz", "crossed")),
            Column("taker_notional", "numeric", "quote, all coins together", "px × sz of the fills as taker.", ("px", "sz", "crossed")),
            Column("closed_pnl", "numeric", "quote, all coins together", "Realized profit or loss of all fills, fees not in it; NULL where one is unknown.", ("closed_pnl",)),
            Column("closed_pnl_known", "bigint", "rows", "Fills whose closed_pnl is known.", ("closed_pnl",)),
            Column("fees_known", "bigint", "rows", "Fills whose fee is known.", ("fee",)),
            Column("fees_in_quote", "numeric", "quote, all coins together", "All fees and rebates, each in its coin's quote; NULL where a part cannot be known.", ("fee", "fee_token", "coin", "px", "side")),
            Column("coins", "bigint", "coins", "Coins in which it traded.", ("coin",)),
            Column("twaps", "bigint", "TWAPs", "TWAPs of its own of which slices were filled.", ("twap_id",)),
            Column("first_fill", "timestamptz", "UTC", "Its first fill of the day.", ("time",)),
            Column("last_fill", "timestamptz", "UTC", "Its last fill of the day.", ("time",)),
            Column("fees", "json", "each its token", "Fees less rebates of all fills by token; NULL where one is unknown.", ("fee", "fee_token")),
            Column("sources", "text[]", "", "Datasets that its fills came from.", ("object_id",)),
            Column("is_complete", "boolean", "", "Whether the day is whole and nothing of it in quarantine; NULL: its sources have nothing that could prove it.", ("block_number",)),
        ),
    ),
    "hl.twap_statuses": TableOf(
        "raw_twap_statuses",
        "Every event of every TWAP, once, by (twap_id, status, time). Definitions: docs/twaps.md.",
        (
            *(Column(c.name, c.type, c.unit, c.meaning, (c.name,)) for c in STATUS_COLUMNS),
            Column("time", "timestamptz", "UTC, µs", "When the event happened, rounded down.", ("time_ns",)),
            Column("object", "text", "", "Key of the object that it came from.", "the key"),
            Column("raw_payload", "jsonb", "", "The whole row of the source; `_raw` in it: as a text, where jsonb does not take it.", ("raw",)),
            Column("inserted_at", "timestamptz", "UTC", "When its day was last loaded.", "the clock"),
            Column("date", "date", "UTC", "The day of `time`.", ("time_ns",)),
            Column("place", "smallint", "", "Order of events of one moment: 0 waitingForTrigger, 1 activated, 2 any other.", ("status",)),
        ),
    ),
    "hl.twaps": TableOf(
        "twap_statuses",
        "One row per TWAP: its statuses and its slices beside each other, and the market meanwhile. Formulas: docs/twaps.md.",
        (
            Column("twap_id", "bigint", "", "The TWAP.", ("twap_id", "fills.twap_id")),
            Column("wallet", "text", "", "Its owner.", ("wallet", "fills.wallet")),
            Column("coin", "text", "", "Its coin.", ("coin", "fills.coin")),
            Column("side", "text", "", "`B`: it buys, `A`: it sells.", ("side", "fills.side")),
            Column("status", "text", "", "Its last status. NULL: none is known.", ("status", "time_ns")),
            Column("error", "text", "", "The text of that one.", ("error", "time_ns")),
            Column("verdict", "text", "", "How statuses and slices agree: `match`, `missing_fills`, `status_missing`, `running`, `failed`, …", ("size_executed", "fills.sz")),
            Column("started_at", "timestamptz", "UTC", "When it was placed.", ("started_at",)),
            Column("begins_at", "timestamptz", "UTC, ms", "When it began to work. NULL: it has not, or no source says when; then what follows from it is NULL.", ("time_ns", "started_at", "fills.time")),
            Column("planned_end", "timestamptz", "UTC, ms", "`begins_at` and its duration.", ("time_ns", "duration_minutes")),
            Column("ended_at", "timestamptz", "UTC, ms", "When it ended. NULL: no status says so.", ("time_ns", "status")),
            Column("duration_minutes", "integer", "minutes", "For how long it was to run.", ("duration_minutes",)),
            Column("reduce_only", "boolean", "", "It may only reduce a position.", ("reduce_only",)),
            Column("randomize", "boolean", "", "Its slices go out at random times.", ("randomize",)),
            Column("statuses", "bigint", "rows", "Its events in hl.twap_statuses.", ("twap_id",)),
            Column("size_requested", "numeric", _COIN, "What was asked for.", ("size_requested",)),
            Column("size_reported", "numeric", _COIN, "What its last status says was executed. NULL: it has not ended.", ("size_executed",)),
            Column("notional_reported", "numeric", _QUOTE, "The same, px × sz.", ("notional_executed",)),
            Column("fills", "bigint", "rows", "Its fills.", ("fills.twap_id",)),
            Column("slices", "bigint", "orders", "Its slices: distinct orders of these fills.", ("fills.oid",)),
            Column("slices_due", "bigint", "orders", "One each 30 s until the end of its window.", ("duration_minutes", "time_ns")),
            Column("size_observed", "numeric", _COIN, "Sizes of its fills.", ("fills.sz",)),
            Column("notional_observed", "numeric", _QUOTE, "px × sz of its fills.", ("fills.px", "fills.sz")),
            Column("first_slice_at", "timestamptz", "UTC", "Its first fill.", ("fills.time",)),
            Column("last_slice_at", "timestamptz", "UTC", "Its last fill.", ("fills.time",)),
            Column("vwap", "numeric", _PX, "Average price of its fills.", ("fills.px", "fills.sz")),
            Column("whole_minutes", "bigint", "minutes", "Whole minutes of its window: what follows is of these. NULL: it has no window.", ("time_ns", "duration_minutes")),
            Column("market_volume", "numeric", _COIN, "Volume of the coin.", ("candles.volume",)),
            Column("market_notional", "numeric", _QUOTE, "Notional of the coin.", ("candles.notional",)),
            Column("market_vwap", "numeric", _PX, "Average price of the coin.", ("candles.volume", "candles.notional")),
            Column("own_volume", "numeric", _COIN, "Sizes of its own fills.", ("fills.sz", "fills.time")),
            Column("own_notional", "numeric", _QUOTE, "px × sz of its own fills.", ("fills.px", "fills.sz", "fills.time")),
            Column("market_vwap_without_own", "numeric", _PX, "Average price of all others' trades.", ("candles.volume", "candles.notional", "fills.px", "fills.sz")),
            Column("participation", "numeric", "share", "own_volume / market_volume.", ("candles.volume", "fills.sz")),
            Column("arrival_px", "numeric", _PX, "Close of the last candle before it began, at most an hour old.", ("candles.close",)),
            Column("slippage_bps", "numeric", "basis points", "vwap against market_vwap; positive is worse for the owner.", ("candles.notional", "fills.px")),
            Column("slippage_without_own_bps", "numeric", "basis points", "Against market_vwap_without_own.", ("candles.notional", "fills.px")),
            Column("slippage_arrival_bps", "numeric", "basis points", "Against arrival_px.", ("candles.close", "fills.px")),
            Column("schedule_deviation", "numeric", "share of the size", "Greatest distance from the straight schedule.", ("size_requested", "fills.time", "fills.sz")),
            Column("maker_share", "numeric", "share", "Of its size, what it made.", ("fills.crossed", "fills.sz")),
            Column("fees", "json", "each its token", "Fees less rebates by token; NULL where one is unknown.", ("fills.fee", "fills.fee_token")),
            Column("closed_pnl", "numeric", _QUOTE, "Profit or loss realized; NULL where one is unknown.", ("fills.closed_pnl",)),
            Column("is_complete", "boolean", "", "Whether the fills of its window's days are whole; NULL: nothing can prove it.", "hl.fills_days"),
            Column("seen_from", "timestamptz", "UTC", "From when on data matters to the row.", ("time_ns", "fills.time")),
            Column("seen_to", "timestamptz", "UTC", "Until when.", ("time_ns", "fills.time")),
        ),
    ),
    "hl.twap_days": TableOf(
        None,
        "The days of TWAP statuses that were loaded.",
        (
            Column("date", "date", "UTC", "The day.", "the partition"),
            Column("state", "text", "", "`unprovable`, `pending`, `incomplete` or `no source`, as judged then.", "judged"),
            Column("explanation", "text", "", "The same in words.", "judged"),
            Column("objects", "bigint", "objects", "Objects that gave it events.", "counted"),
            Column("rows", "bigint", "rows", "Its events.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake that repeated an event and were left out.", "counted"),
            Column("conflicts", "bigint", "rows", "Of these: that say other things of it.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When it was loaded.", "the clock"),
            Column("twaps_at", "timestamptz", "UTC", "When hl.twaps was made from these. NULL: not since they were loaded.", "the clock"),
        ),
    ),
    "hl.twap_slice_days": TableOf(
        None,
        "On which days a TWAP has slices.",
        (
            Column("twap_id", "bigint", "", "The TWAP.", "`twapId`"),
            Column("date", "date", "UTC", "The day.", "`time`"),
        ),
    ),
    "hl.s3_ingest_log": TableOf(
        None,
        "The ledger: one row per object: an hour of a dataset of fills, a day of a shard from the info API (`source` api_fills), or any of TWAP statuses (twap_statuses).",
        (
            Column("object_id", "integer", "", "1 node_trades, 2 node_fills, 3 node_fills_by_block in millions, and the hours since 2023; of the info API 4,000,000 and 256 times the days since 2023 and the shard. NULL: of no fills.", "made here"),
            Column("object_key", "text", "", "The object's name in the bucket.", "LIST"),
            Column("source", "text", "", "The dataset.", "the key"),
            Column("object_date", "date", "UTC", "Day of the bucket.", "the key"),
            Column("object_hour", "smallint", "UTC", "Hour of the bucket. NULL: the key has none.", "the key"),
            Column("etag", "text", "", "ETag of what the lake has. NULL: nothing yet.", "LIST"),
            Column("size_bytes", "bigint", "bytes", "Compressed size.", "LIST"),
            Column("parser", "integer", "", "Version of the parser that read it.", "made here"),
            Column("rows", "bigint", "rows", "Fills or statuses in it.", "counted"),
            Column("bad_lines", "bigint", "lines or events", "In quarantine, beside its file in the lake.", "counted"),
            Column("first_block", "bigint", "", "Lowest block number.", "`block_number`"),
            Column("last_block", "bigint", "", "Highest block number.", "`block_number`"),
            Column("missing_blocks", "bigint", "blocks", "Numbers missing between the two.", "counted"),
            Column("first_time", "timestamptz", "UTC, s", "The first moment that it tells of.", "times of its blocks, fills or statuses"),
            Column("last_time", "timestamptz", "UTC, s", "The last one.", "times of its blocks, fills or statuses"),
            Column("fetched_at", "timestamptz", "UTC", "When it came into the lake.", "the clock"),
            Column("loaded_at", "timestamptz", "UTC", "When a day was last loaded from it.", "the clock"),
            Column("error", "text", "", "Why it could not be had, until it is mended.", "made here"),
            Column("error_at", "timestamptz", "UTC", "When that was.", "the clock"),
            Column("reset_of", "timestamptz", "UTC", "`fetched_at` of the form that `hl reset checkpoint` wants replaced: the next run downloads the object again. NULL: it is kept.", "given"),
        ),
    ),
    "hl.s3_requests": TableOf(
        None,
        "The ledger of money: one row per request to a bucket whose requester pays, retries and broken ones too.",
        (
            Column("id", "bigint", "", "In their order.", "made here"),
            Column("at", "timestamptz", "UTC", "Just before it was sent.", "the clock"),
            Column("bucket", "text", "", "The bucket's name.", "HL_NODE_DATA_URL, HL_TWAP_DATA_URL"),
            Column("method", "text", "", "`LIST` (a page) or `GET`.", "made here"),
            Column("key", "text", "", "The object, or the prefix that was listed.", "made here"),
            Column("status", "smallint", "", "HTTP status. NULL: no answer came.", "the answer"),
            Column("bytes", "bigint", "bytes", "Of the body, as received; the expected ones while `error` is `not finished`.", "counted"),
            Column("dollars", "numeric", "USD", "By the prices of the settings; written before the request with what it can cost.", "made here"),
            Column("error", "text", "", "What went wrong; `not finished`: under way, or killed. NULL: nothing.", "made here"),
            Column("seconds", "double precision", "s", "How long it took.", "the clock"),
            Column("run_id", "text", "", "Dagster's run.", "Dagster"),
        ),
    ),
    "hl.info_calls": TableOf(
        None,
        "Calls to the info API that are under way, or were made within the last minute: what they weigh together stays below HL_INFO_WEIGHT_PER_MINUTE.",
        (
            Column("id", "bigint", "", "Their order.", "made here"),
            Column("egress", "text", "", "The address they were made from.", "HL_EGRESS"),
            Column("weight", "integer", "", "Of a call under way: what it can weigh.", "20, and 1 for 20 items"),
            Column("counts_until", "timestamptz", "UTC", "When it is no more of the last minute.", "the clock"),
        ),
    ),
    "hl.info_egresses": TableOf(
        None,
        "Addresses that the info API has told to wait.",
        (
            Column("egress", "text", "", "The address.", "HL_EGRESS"),
            Column("blocked_until", "timestamptz", "UTC", "Nobody calls from it before.", "429, `Retry-After`"),
        ),
    ),
    "hl.backfill_progress": TableOf(
        None,
        "How far the info API was asked for a wallet, and whether everything of the window came (docs/guides/backfill-wallets.md).",
        (
            Column("wallet", "text", "", "The address, lower case.", "hl.user_stats, or given"),
            Column("shard", "smallint", "", "Its shard, 0 to 255.", "the first byte of sha256 of the address"),
            Column("state", "text", "", "`pending`, `started`, `complete`, `truncated` (older fills may lack) or `failed` (see error).", "judged"),
            Column("window_start", "timestamptz", "UTC", "From when on it was asked for. NULL: never.", "HL_BACKFILL_FROM"),
            Column("window_end", "timestamptz", "UTC", "Up to when, itself not included.", "HL_BACKFILL_TO"),
            Column("fills_next", "timestamptz", "UTC, ms", "From where the next page of its fills begins. NULL: at the window's start, or none is left.", "`time`"),
            Column("slices_next", "timestamptz", "UTC, ms", "The same of the slices of its TWAPs.", "`time`"),
            Column("fills_walked", "boolean", "", "Whether the last page of its fills has come.", "judged"),
            Column("slices_walked", "boolean", "", "The same of the slices of its TWAPs.", "judged"),
            Column("oldest", "timestamptz", "UTC, ms", "The oldest fill that came. Of a truncated wallet nothing before it is known to be all.", "`time`"),
            Column("newest", "timestamptz", "UTC, ms", "The newest one.", "`time`"),
            Column("fills", "bigint", "rows", "Fills and slices that came.", "counted"),
            Column("bad", "bigint", "items", "Items that could not be taken: hl.backfill_bad.", "counted"),
            Column("crowded", "bigint[]", "ms since 1970, UTC", "Moments of which a page was full, so that more may be.", "`time`"),
            Column("requests", "bigint", "", "Calls to the API.", "counted"),
            Column("weight", "bigint", "", "What they weighed.", "20, and 1 for 20 items"),
            Column("reason", "text", "", "Why it is truncated.", "judged"),
            Column("error", "text", "", "Why it failed.", "made here"),
            Column("started_at", "timestamptz", "UTC", "When it was first asked for.", "the clock"),
            Column("ended_at", "timestamptz", "UTC", "When that was over, or failed.", "the clock"),
            Column("statuses", "bigint", "rows", "Statuses of its TWAPs that came from `twapHistory`, with a TWAP to which they belong.", "counted"),
            Column("history_error", "text", "", "Why it could not be asked for these.", "made here"),
            Column("history_at", "timestamptz", "UTC", "When it was. NULL: not yet, or it failed.", "the clock"),
        ),
    ),
    "hl.backfill_pages": TableOf(
        None,
        "Pages of the info API on their way into the lake.",
        (
            Column("wallet", "text", "", "The wallet.", "given"),
            Column("kind", "text", "", "`fills` or `twap_slices`.", "made here"),
            Column("page", "integer", "", "In their order, from 1.", "made here"),
            Column("rows", "integer", "rows", "Fills in it that no page before it had.", "counted"),
            Column("fills", "bytea", "", "These, as Parquet.", "the page"),
        ),
    ),
    "hl.backfill_bad": TableOf(
        None,
        "Items of the info API that could not be taken; also in the lake, `api_fills/shard=XX.bad.jsonl`.",
        (
            Column("wallet", "text", "", "The wallet.", "given"),
            Column("kind", "text", "", "`fills`, `twap_slices` or `twap_history`.", "made here"),
            Column("reason", "text", "", "What is wrong with it.", "made here"),
            Column("item", "bytea", "", "The item as JSON.", "the page"),
            Column("digest", "bytea", "", "sha256 of the item.", "item"),
        ),
    ),
    "hl.coverage": TableOf(
        None,
        "Is it complete: one row per dataset, day and hour of the bucket that a day has asked for.",
        (
            Column("source", "text", "", "The dataset: `node_trades`, `node_fills`, `node_fills_by_block` or `twap_statuses`.", "the key"),
            Column("object_date", "date", "UTC", "Day of the bucket.", "the key"),
            Column("object_hour", "smallint", "UTC", "Hour of the bucket. NULL: all objects of the day that have no hour (statuses in Parquet).", "the key"),
            Column("expected", "boolean", "", "Whether it is a hole when it is not there: not where a better dataset has every fill.", "judged"),
            Column("found", "text", "", "`present`, `unprovable` (there, of a format that cannot show whether it lacks a row), `not due`, `missing`, `failed` (an error), `blocks missing` (in it or before it).", "judged"),
            Column("is_hole", "boolean", "", "Whether that is a hole.", "found, expected"),
            Column("note", "text", "", "What hl.acknowledged says of it. NULL: nothing.", "hl.acknowledged"),
            Column("state", "text", "", "As `found`; `acknowledged`: a hole with a note.", "found, note"),
            Column("why", "text", "", "The same in words, of what is not there.", "judged"),
            Column("object_key", "text", "", "Name in the bucket (of several statuses: their names) of what the lake has. NULL: nothing.", "LIST"),
            Column("etag", "text", "", "Its ETag.", "LIST"),
            Column("rows", "bigint", "rows", "Fills or statuses in it.", "counted"),
            Column("bad_lines", "bigint", "lines or events", "In quarantine.", "counted"),
            Column("first_block", "bigint", "", "Lowest block number.", "`block_number`"),
            Column("last_block", "bigint", "", "Highest block number.", "`block_number`"),
            Column("missing_ranges", "int8multirange", "", "Block numbers missing in it, and between it and the object of the hour before, that no object near has.", "counted"),
            Column("missing_blocks", "bigint", "blocks", "How many these are.", "counted"),
            Column("fetched_at", "timestamptz", "UTC", "When it came into the lake.", "the clock"),
            Column("judged_at", "timestamptz", "UTC", "When this was found.", "the clock"),
        ),
    ),
    "hl.acknowledged": TableOf(
        None,
        "Holes that people know of and can do nothing about (`hl acknowledge`).",
        (
            Column("source", "text", "", "As in hl.coverage.", "given"),
            Column("object_date", "date", "UTC", "As in hl.coverage.", "given"),
            Column("object_hour", "smallint", "UTC", "NULL: whatever lacks of the day.", "given"),
            Column("note", "text", "", "Why, in somebody's words.", "given"),
            Column("at", "timestamptz", "UTC", "When.", "the clock"),
        ),
    ),
    "hl.dirty_days": TableOf(
        None,
        "The days whose fills in hl.fills are older than what the lake has, until they are loaded again (`hl ingest --dirty`).",
        (
            Column("date", "date", "UTC", "The day.", "given"),
            Column("reason", "text", "", "What made it so, the last time.", "given"),
            Column("noted_at", "timestamptz", "UTC", "When that was.", "the clock"),
        ),
    ),
    "hl.fills_days": TableOf(
        None,
        "The days that were loaded.",
        (
            Column("date", "date", "UTC", "The day.", "the partition"),
            Column("rows", "bigint", "rows", "Its fills.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake that repeated a fill and were left out.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When it was loaded.", "the clock"),
            Column("state", "text", "", "`whole`, `unprovable`, `pending`, `incomplete` or `no source`, as judged then.", "judged"),
            Column("explanation", "text", "", "The same in words.", "judged"),
            Column("edges", "text[]", "", "Its edges that no object crosses, in words.", "judged"),
            Column("thinned_at", "timestamptz", "UTC", "When its rows left hl.fills; the lake has them. NULL: they are there.", "the clock"),
            Column("candles_at", "timestamptz", "UTC", "When hl.candles was made from these fills. NULL: not since they were loaded.", "the clock"),
            Column("daily_stats_at", "timestamptz", "UTC", "The same of hl.daily_stats.", "the clock"),
            Column("user_stats_at", "timestamptz", "UTC", "The same of hl.user_stats.", "the clock"),
            Column("twaps_at", "timestamptz", "UTC", "The same of hl.twaps.", "the clock"),
        ),
    ),
    "hl.fills_hours": TableOf(
        None,
        "The hours of each day that have fills. Days loaded before this table was there have none.",
        (
            Column("date", "date", "UTC", "The day.", "the partition"),
            Column("hour", "smallint", "UTC", "The hour of the event, 0 to 23.", "`time`"),
            Column("rows", "bigint", "rows", "Its fills.", "counted"),
            Column("duplicates", "bigint", "rows", "Rows of the lake that repeated a fill and were left out.", "counted"),
            Column("conflicts", "bigint", "rows", "Of these: that say other things of it.", "counted"),
            Column("loaded_at", "timestamptz", "UTC", "When it was loaded.", "the clock"),
            Column("repeated", "bigint", "rows", "Rows in the lake's `fills/` that repeat a fill: 0, or something is wrong.", "counted"),
            Column("trades", "bigint", "trades", "Its trades.", "counted"),
            Column("single_legs", "bigint", "trades", "Of these: of which one leg alone is there.", "counted"),
            Column("crowded", "bigint", "trades", "Of these: with legs that are no pair.", "counted"),
            Column("proven_at", "timestamptz", "UTC", "When lake and hl.fills were found to have the same rows of it. NULL: not since it was loaded.", "the clock"),
            Column("candles_at", "timestamptz", "UTC", "When its candles were made. NULL: not since it was loaded.", "the clock"),
        ),
    ),
    "hl.fills_day_objects": TableOf(
        None,
        "Which objects gave a day its rows.",
        (
            Column("date", "date", "UTC", "The day.", "the partition"),
            Column("object_id", "integer", "", "The object: hl.s3_ingest_log.", "made here"),
            Column("etag", "text", "", "Its ETag then.", "LIST"),
            Column("parser", "integer", "", "Version of the parser that had read it. NULL: not known.", "made here"),
            Column("rows", "bigint", "rows", "Rows of the day that it gave.", "counted"),
        ),
    ),
    "hl.twap_day_objects": TableOf(
        None,
        "Which objects a day of TWAP statuses was made of.",
        (
            Column("date", "date", "UTC", "The day.", "the partition"),
            Column("object_key", "text", "", "The object: hl.s3_ingest_log.", "LIST"),
            Column("etag", "text", "", "Its ETag then.", "LIST"),
        ),
    ),
}

LAKE_ONLY = (
    Column("local_time_ns", "bigint", "ns since 1970, UTC", "When the node wrote the block, by its own clock; hours are cut by it.", "`local_time`"),
    Column("line", "bigint", "", "Line of the object, from 1; in `api_fills/` place among the day's fills of the shard, as the API gave them. NULL: not known.", "counted"),
    Column("object", "text", "", "Key of the object; not in `raw_fills/`, whose files are of one object each.", "the key"),
)
"""Columns of the lake's fills beyond those of hl.fills (which has `object_id` in place of `object`)."""

STATUS_LAKE_ONLY = (
    Column("block_number", "bigint", "", "Its block. NULL: the source does not say.", "`block_number`"),
    Column("line", "bigint", "", "Line or row of the object, from 1.", "counted"),
    Column("raw", "text", "", "The whole row of the source, as JSON.", "the row"),
)
"""Columns of the lake's statuses beyond those of hl.twap_statuses."""

# fmt: on
