"""The columns of each kind of row, and the type of each column. Values become exact Python values here: no float anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

Row = dict[str, Any]
Type = Literal["text", "integer", "boolean", "decimal", "instant", "day", "json"]

_DECIMALS = """
    px sz start_position closed_pnl fee builder_fee deployer_fee priority_gas liquidation_mark_px
    open high low close volume notional vwap fees_in_quote net_pnl maker_notional taker_notional
    buy_volume sell_volume buy_notional sell_notional liquidation_notional twap_volume twap_notional builder_volume
    builder_notional size size_requested size_executed size_reported size_observed notional_executed notional_reported
    notional_observed market_volume market_notional market_vwap market_vwap_without_own own_volume own_notional participation
    arrival_px slippage_bps slippage_without_own_bps slippage_arrival_bps schedule_deviation maker_share
    known_buy_size known_sell_size net_size gross_size net_notional gross_notional dollars budget_dollars
"""
_INSTANTS = """
    time ts at started_at latest_ts begins_at planned_end ended_at first_slice_at last_slice_at seen_from seen_to first_fill
    last_fill first_begins_at last_begins_at loaded_at thinned_at fetched_at judged_at
"""
_BOOLEANS = "crossed is_complete reduce_only randomize expected is_hole"
_INTEGERS = """
    twap_id block_time_ns block_number oid counterparty_oid tid object_id ordinal trades fills non_market_rows fees_known buys
    sells liquidations wallets days maker_fills taker_fills closed_pnl_known coins twaps slices slices_due statuses
    whole_minutes duration_minutes rank fills_with_fee object_hour rows bad_lines first_block last_block missing_blocks holes
    acknowledged duplicates
"""
_TYPES: dict[str, Type] = {
    **dict.fromkeys(_DECIMALS.split(), "decimal"),
    **dict.fromkeys(_INSTANTS.split(), "instant"),
    **dict.fromkeys(_BOOLEANS.split(), "boolean"),
    **dict.fromkeys(_INTEGERS.split(), "integer"),
    **dict.fromkeys(("date", "object_date", "period_start", "month"), "day"),
    **dict.fromkeys(("raw", "extra", "fees", "sources", "missing_ranges", "edges"), "json"),
}
_ANALYTICS = """
    verdict begins_at planned_end ended_at statuses size_reported notional_reported fills slices slices_due size_observed
    notional_observed first_slice_at last_slice_at vwap whole_minutes market_volume market_notional market_vwap own_volume
    own_notional market_vwap_without_own participation arrival_px slippage_bps slippage_without_own_bps slippage_arrival_bps
    schedule_deviation maker_share fees closed_pnl is_complete seen_from seen_to
"""
_OF_COIN = """
    coin kind fills non_market_rows fees_known fees_in_quote trades volume notional buys sells buy_volume sell_volume
    buy_notional sell_notional liquidations liquidation_notional twap_volume twap_notional builder_volume builder_notional
"""
_OF_WALLET = """
    wallet fills non_market_rows maker_fills taker_fills maker_notional taker_notional
"""
_OF_BUILDER = "builder days coins fills non_market_rows fills_with_fee notional fees_in_quote is_complete fees"
_PRICES = "open high low close fees is_complete vwap"
_KINDS = {
    "fills": """
        time block_number block_time_ns coin wallet side px sz start_position dir closed_pnl hash oid counterparty_oid crossed
        fee tid cloid fee_token builder builder_fee deployer_fee priority_gas twap_id liquidated_user liquidation_mark_px
        liquidation_method extra object_id ordinal
    """,
    "twaps": f"""
        twap_id wallet asset side status error duration_minutes started_at latest_ts size_requested size_executed
        notional_executed reduce_only randomize raw {_ANALYTICS}
    """,
    "twap_events": """
        wallet ts asset side size_requested size_executed notional_executed status error duration_minutes started_at reduce_only
        randomize raw
    """,
    "candles": "coin time open high low close volume notional trades date",
    "daily_stats": f"date {_OF_COIN} wallets {_PRICES}",
    "daily_stats_by": f"period_start days {_OF_COIN} {_PRICES}",
    "user_stats": f"""
        date {_OF_WALLET} closed_pnl closed_pnl_known fees_known fees_in_quote coins twaps first_fill last_fill fees sources
        is_complete
    """,
    "user_stats_by": f"""
        period_start days {_OF_WALLET} notional closed_pnl closed_pnl_known fees_known fees_in_quote first_fill last_fill fees
        is_complete
    """,
    "wallets_ranked": """
        rank wallet days fills maker_notional taker_notional notional closed_pnl fees_in_quote net_pnl first_fill last_fill
        is_complete fees
    """,
    "twaps_ranked": """
        rank wallet twaps coins fills slices notional closed_pnl first_begins_at last_begins_at is_complete fees
    """,
    "builders_ranked": f"rank {_OF_BUILDER}",
    "builders": _OF_BUILDER,
    "coverage_days": "date what state explanation edges holes acknowledged rows duplicates loaded_at thinned_at",
    "coverage_hours": """
        source object_date object_hour state found expected is_hole note why object_key etag rows bad_lines first_block
        last_block missing_blocks missing_ranges fetched_at judged_at
    """,
}
KINDS = {name: tuple(columns.split()) for name, columns in _KINDS.items()}
"""The columns of a frame of each kind of rows, in order."""


def type_of(column: str) -> Type:
    """Return the type of a column."""
    return _TYPES.get(column, "text")


def decimal_scale(column: str) -> int:
    """Return the digits after the point in a frame: those of the API's Parquet files."""
    return 20 if "notional" in column or column in ("fees_in_quote", "net_pnl") else 10


def as_python(value: Any, name: str = "") -> Any:
    """Return a value of the API's JSON with exact Python values: Decimal, datetime, date and int in place of texts."""
    kind = type_of(name)
    if kind == "json":
        return {token: Decimal(fee) for token, fee in value.items()} if name == "fees" and value is not None else value
    if isinstance(value, Mapping):
        return {key: as_python(inner, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_python(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    if name in ("start", "end"):
        return date.fromisoformat(value) if len(value) == len("2025-11-03") else datetime.fromisoformat(value)
    return _FROM_TEXT[kind](value) if kind in _FROM_TEXT else value


_FROM_TEXT: dict[Type, Callable[[str], Any]] = {
    "decimal": Decimal,
    "instant": datetime.fromisoformat,
    "day": date.fromisoformat,
    "integer": int,
}


def as_flat_row(kind: str, row: Row) -> Row:
    """Return a row for a frame. TWAPs have their figures beside the event's own fields, as the API's files do."""
    if kind != "twaps":
        return row
    event = {name: value for name, value in row.items() if name not in ("executed", "analytics")}
    # The TWAP endpoints call it `asset`.
    figures = {name: value for name, value in (row.get("analytics") or {}).items() if name != "coin"}
    return figures | event
