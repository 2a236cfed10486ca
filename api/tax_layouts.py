"""The lines of tax as other programs import them: Koinly and CoinTracker by their help pages, Awaken
by what other projects write for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal

from psycopg import AsyncConnection

from api.coins import ALL_SEEN
from api.file_formats import Columns, Row
from api.parameters import TaxLayout
from api.tax import OWN_LAYOUT, Layout, Line, plain

# https://support.koinly.io/en/articles/9489976-how-to-create-a-custom-csv-file-with-your-data
_KOINLY = (
    *("Date", "Sent Amount", "Sent Currency", "Received Amount", "Received Currency", "Fee Amount", "Fee Currency"),
    *("Net Worth Amount", "Net Worth Currency", "Label", "Description", "TxHash"),
)
# https://support.cointracker.io/hc/en-us/articles/4413071299729-Convert-your-transaction-history-to-CoinTracker-CSV
_COINTRACKER = (
    *("Date", "Received Quantity", "Received Currency", "Sent Quantity", "Sent Currency", "Fee Amount", "Fee Currency", "Tag"),
)
# Awaken has a template of its own for perpetuals.
_AWAKEN = ("Date", "Asset", "Amount", "Fee", "P&L", "Payment Token", "ID", "Notes", "Tag", "Transaction Hash")
_AWAKEN_SPOT = (
    *("Date", "Received Quantity", "Received Currency", "Received Fiat Amount", "Sent Quantity", "Sent Currency"),
    *("Sent Fiat Amount", "Fee Amount", "Fee Currency", "Transaction Hash", "Notes", "Tag"),
)
_DOLLARS = ("USDC", "USDH", "USDT0", "USDE")

_Tokens = dict[str, tuple[str, str]]
"""The base and quote of spot pairs that have a number for a name."""
_Amount = tuple[str | None, str | None]
_NOTHING: _Amount = (None, None)
# What an amount is: a trade, or money of a perpetual.
_Kind = Literal["trade", "profit", "loss", "unknown profit", "fee", "rebate", "unknown fee", "spot fee", "spot rebate"]
_KOINLY_LABELS: dict[_Kind, str] = {
    **dict.fromkeys(("profit", "loss", "unknown profit"), "realized gain"),
    **dict.fromkeys(("fee", "unknown fee"), "margin fee"),
    **dict.fromkeys(("rebate", "spot rebate"), "fee refund"),
    "spot fee": "cost",
}
_COINTRACKER_TAGS: dict[_Kind, str] = {
    "profit": "margin gain",
    "loss": "margin loss",
    "fee": "margin fee",
    "rebate": "margin rebate",
    "spot rebate": "rebate",
}


async def read_layout(connection: AsyncConnection, name: TaxLayout) -> Layout:
    """Return a layout by its name."""
    if name == "default":
        return OWN_LAYOUT
    tokens = {} if name == "awaken" else await _read_tokens(connection)
    if name == "koinly":
        return Layout(_texts(_KOINLY), lambda line: [_koinly(line, *flow) for flow in _flows(line, tokens)])
    if name == "cointracker":
        return Layout(_texts(_COINTRACKER), lambda line: [_cointracker(line, *flow) for flow in _flows(line, tokens)])
    if name == "awaken":
        return Layout(_texts(_AWAKEN), _awaken)
    return Layout(_texts(_AWAKEN_SPOT), lambda line: _awaken_spot(line, tokens))


def _texts(names: Sequence[str]) -> Columns:
    return [(name, "text") for name in names]


async def _read_tokens(connection: AsyncConnection) -> _Tokens:
    """Return the tokens of pairs like @107, as far as their fees tell: one in the base, one in dollars."""
    found: _Tokens = {}
    for coin, text in await (await connection.execute(ALL_SEEN)).fetchall():
        tokens = text.split()
        bases = [token for token in tokens if token not in _DOLLARS]
        if coin.startswith("@") and len(bases) == 1 and len(tokens) == 2:
            found[coin] = (bases[0], next(token for token in tokens if token in _DOLLARS))
    return found


def _is_spot(coin: str) -> bool:
    """Return whether a coin is itself bought and sold: spot and outcomes. Of perpetuals, only profit and fees are money."""
    return coin.startswith(("@", "#")) or "/" in coin


def _pair(coin: str, tokens: _Tokens) -> tuple[str, str]:
    base, slash, quote = coin.partition("/")
    return (base, quote) if slash else tokens.get(coin, (coin, "USDC"))


def _payment_token(line: Line) -> str:
    """Return the token of a perpetual's profit: it charges its fees in the same one."""
    return next(iter(line.fees)) if line.fees is not None and len(line.fees) == 1 else "USDC"


def _flows(line: Line, tokens: _Tokens) -> Iterator[tuple[_Kind, _Amount, _Amount, _Amount]]:
    """Yield what a line moved, in rows: the kind, and the amounts sent, received and paid as the fee of a trade."""
    is_spot = _is_spot(line.coin)
    fees = {token: fee for token, fee in (line.fees or {}).items() if fee}
    if is_spot:
        base, quote = _pair(line.coin, tokens)
        paid = _NOTHING
        if len(fees) == 1 and next(iter(fees.values())) > 0:
            token, fee = fees.popitem()
            paid = (plain(fee), token)
        of_base, of_quote = (plain(line.size), base), (_worth(line), quote)
        yield ("trade", of_quote, of_base, paid) if line.side == "B" else ("trade", of_base, of_quote, paid)
    elif line.closed_pnl is None:
        yield "unknown profit", _NOTHING, _NOTHING, _NOTHING
    elif line.closed_pnl:
        amount = (plain(abs(line.closed_pnl)), _payment_token(line))
        yield ("profit", _NOTHING, amount, _NOTHING) if line.closed_pnl > 0 else ("loss", amount, _NOTHING, _NOTHING)
    for token, fee in fees.items():
        amount = (plain(abs(fee)), token)
        if fee > 0:
            yield "spot fee" if is_spot else "fee", amount, _NOTHING, _NOTHING
        else:
            yield "spot rebate" if is_spot else "rebate", _NOTHING, amount, _NOTHING
    if line.fees is None:
        yield "unknown fee", _NOTHING, _NOTHING, _NOTHING


def _worth(line: Line) -> str | None:
    """Return what a line is worth. A booking, which is no trade, has no notional."""
    if line.notional is None and line.line == "fill":
        return plain(line.px * line.size)
    return plain(line.notional)


def _describe(line: Line, unknown: str = "") -> str:
    what = f"TWAP {line.twap_id}, {line.fills} fills" if line.line == "twap" else f"fill {line.tid or line.oid or ''}".strip()
    side = "buys" if line.side == "B" else "sells"
    parts = [what, f"{side} {plain(line.size)} {line.coin} at {plain(line.vwap) or 'an unknown price'}", line.dir, unknown]
    return ", ".join(part for part in parts if part)


def _hash(line: Line) -> str | None:
    """Return the transaction of a fill. Slices of TWAPs have only zeros."""
    return None if line.hash is None or not line.hash.removeprefix("0x").strip("0") else line.hash


def _koinly(line: Line, kind: _Kind, sent: _Amount, received: _Amount, paid: _Amount) -> Row:
    date = f"{line.last_time[:10]} {line.last_time[11:19]} UTC"
    description = _describe(line, _say_unknown(kind))
    return (date, *sent, *received, *paid, None, None, _KOINLY_LABELS.get(kind), description, _hash(line))


def _cointracker(line: Line, kind: _Kind, sent: _Amount, received: _Amount, paid: _Amount) -> Row:
    return (_american(line.last_time), *received, *sent, *paid, _COINTRACKER_TAGS.get(kind) or _say_unknown(kind) or None)


def _say_unknown(kind: _Kind) -> str:
    return f"{kind}: fill in the amount" if kind.startswith("unknown") else ""


def _awaken(line: Line) -> list[Row]:
    """Return the row of a perpetual. Only P&L may be negative, so a rebate is part of it."""
    if _is_spot(line.coin):
        return []
    total = None if line.fees is None or len(line.fees) > 1 else next(iter(line.fees.values()), Decimal(0))
    rebate = -total if total is not None and total < 0 else Decimal(0)
    profit = None if line.closed_pnl is None else line.closed_pnl + rebate
    notes = [f"P&L includes a rebate of {plain(rebate)}" if rebate else ""]
    notes += [
        "unknown P&L: fill in the amount" if profit is None else "",
        "unknown fee: fill in the amount" if total is None else "",
    ]
    opens = (line.dir or "").startswith("Open") or (line.dir is None and not line.closed_pnl)
    return [
        (
            *(_american(line.last_time), line.coin, plain(line.size), None if total is None else plain(max(total, Decimal(0)))),
            *(plain(profit), _payment_token(line), line.twap_id if line.line == "twap" else line.tid),
            _describe(line, ", ".join(note for note in notes if note)),
            *("open_position" if opens else "close_position", _hash(line)),
        )
    ]


def _awaken_spot(line: Line, tokens: _Tokens) -> list[Row]:
    if not _is_spot(line.coin):
        return []
    return [
        (_american(line.last_time), *received, None, *sent, None, *paid, _hash(line), _describe(line, _say_unknown(kind)), None)
        for kind, sent, received, paid in _flows(line, tokens)
    ]


def _american(time: str) -> str:
    return f"{time[5:7]}/{time[8:10]}/{time[:4]} {time[11:19]}"
