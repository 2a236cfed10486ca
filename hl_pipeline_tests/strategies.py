"""Hypothesis strategies for legal blocks of fills and legal trades: every field in every form in FORMATS, and unknown fields."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

DAY_MS = int(datetime(2026, 3, 15, tzinfo=UTC).timestamp() * 1000)

digits = st.text("0123456789", min_size=1, max_size=28)
decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}" + (f".{fraction}" if fraction else ""),
    st.sampled_from(["", "-"]),
    digits,
    st.text("0123456789", max_size=10),
)
names = st.one_of(
    st.sampled_from(["BTC", "kPEPE", "@107", "PURR/USDC", "xyz:TSLA", "#1890"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
)
addresses = st.text("0123456789abcdef", min_size=40, max_size=40).map("0x{}".format)
integers = st.integers(0, 2**50)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KNOWN = {
    "coin": names,
    "px": decimals,
    "sz": decimals,
    "side": st.sampled_from(["A", "B"]),
    "startPosition": decimals,
    "dir": names,
    "closedPnl": decimals,
    "hash": st.text("0123456789abcdef", min_size=64, max_size=64).map("0x{}".format),
    "oid": integers,
    "crossed": st.booleans(),
    "fee": decimals,
    "tid": integers,
    "feeToken": names,
    "twapId": st.none() | integers,
}
_OPTIONAL = {
    "twapId": st.none() | integers,
    "cloid": st.none() | st.text("0123456789abcdef", min_size=32, max_size=32).map("0x{}".format),
    "builder": st.none() | addresses,
    "builderFee": st.none() | decimals,
    "deployerFee": decimals,
    "priorityGas": decimals,
    "liquidation": st.fixed_dictionaries(
        {"liquidatedUser": addresses, "markPx": decimals, "method": st.sampled_from(["market", "backstop"])}
    ),
}
_OURS = {"_missing", "_block", "_trade"}
_HASHES, _CLOIDS = _KNOWN["hash"], _OPTIONAL["cloid"]


def _unknown_but(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Generate fields with other names than these."""
    return st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name not in names), json_values, max_size=2)


_unknown = _unknown_but(*_KNOWN, *_OPTIONAL, "time", "user", *_OURS)


@st.composite
def fills(draw: st.DrawFn, time_ms: int) -> dict[str, Any]:
    """Generate a fill at a time, with keys in any order, optional keys present or not, and sometimes unknown keys."""
    regular = dict(_KNOWN)
    if draw(st.integers(0, 9)) == 0:
        regular.pop(
            draw(st.sampled_from(["startPosition", "dir", "closedPnl", "hash", "oid", "crossed", "fee", "feeToken", "twapId"]))
        )
    fill = draw(st.fixed_dictionaries({name: value for name, value in regular.items() if name != "twapId"}, optional=_OPTIONAL))
    if "twapId" in regular and "twapId" not in fill:
        fill["twapId"] = None
    if draw(st.integers(0, 4)) == 0:
        fill |= draw(_unknown)
    fill["time"] = time_ms
    return dict(draw(st.permutations(list(fill.items()))))


@st.composite
def blocks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Generate consecutively numbered blocks of 2026-03-15, without repeated fills."""
    made: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for number in range(draw(st.integers(1, 3))):
        time_ms = DAY_MS + draw(st.integers(0, 86_399_998))
        nanoseconds = draw(st.integers(0, 999_999))
        moment = datetime.fromtimestamp(time_ms // 1000, UTC)
        text = f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}{nanoseconds:06}"
        events: list[list[Any]] = []
        for _ in range(draw(st.integers(0, 3))):
            user, fill = draw(addresses), draw(fills(time_ms))
            key = (time_ms, fill["coin"], user, fill["side"], fill["tid"])
            if key not in seen:
                seen.add(key)
                events.append([user, fill])
        made.append({"local_time": text, "block_time": text, "block_number": 1000 + number, "events": events})
    return made


_TRADE_REGULAR = {"hash": _HASHES, "trade_dir_override": st.sampled_from(["Na", "Na", "Na", "Other", None])}
_LEG_REGULAR = {"start_pos": st.none() | decimals, "twap_id": st.none() | integers, "cloid": _CLOIDS}
_iso_times = st.builds(
    lambda second, fraction: f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}" + (f".{fraction}" if fraction else ""),
    st.integers(1_672_531_200, 7_258_118_399),
    st.text("0123456789", max_size=9),
)


@st.composite
def _legs(draw: st.DrawFn, odd: bool) -> dict[str, Any]:
    leg = {"user": draw(addresses), **draw(st.fixed_dictionaries(_LEG_REGULAR)), "oid": draw(integers)}
    leg = {name: leg[name] for name in ("user", "start_pos", "oid", "twap_id", "cloid")}
    return leg | draw(_unknown_but(*leg, *_OURS)) if odd else leg


@st.composite
def trades(draw: st.DrawFn) -> dict[str, Any]:
    """Generate a trade of `node_trades`: half as the node writes it, half with keys in any order, missing or unknown."""
    odd = draw(st.booleans())
    regular = draw(st.fixed_dictionaries(_TRADE_REGULAR))
    trade = {
        "coin": draw(names),
        "side": draw(st.sampled_from(["A", "B"])),
        "time": draw(_iso_times),
        "px": draw(decimals),
        "sz": draw(decimals),
        **regular,
        "side_info": [draw(_legs(odd)), draw(_legs(odd))],
    }
    if not odd:
        return trade
    for fields, regulars in ((trade, _TRADE_REGULAR), *((leg, _LEG_REGULAR) for leg in trade["side_info"])):
        if draw(st.integers(0, 3)) == 0:
            fields.pop(draw(st.sampled_from(sorted(regulars))))
    trade |= draw(_unknown_but(*trade, *_TRADE_REGULAR))
    return dict(draw(st.permutations(list(trade.items()))))


def as_lines(made: list[Any], *, spaced: bool, ascii_only: bool) -> bytes:
    """Return each item of `made` as a line of JSON, either compact like the node's or with spaces."""
    separators = (", ", ": ") if spaced else (",", ":")
    return b"".join(
        json.dumps(line, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") + b"\n" for line in made
    )


def damaged(chunk: bytes, pieces: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Generate `chunk` with up to three parts replaced by `pieces` or by random bytes. It ends in a newline."""
    put = st.one_of(st.sampled_from(pieces), st.binary(max_size=3))
    places = st.lists(st.tuples(st.integers(0, len(chunk) - 1), st.integers(0, 12), put), min_size=1, max_size=3)

    def apply(mutations: list[tuple[int, int, bytes]]) -> bytes:
        text = chunk
        for at, cut, piece in mutations:
            text = text[:at] + piece + text[at + cut :]
        return text if text.endswith(b"\n") else text + b"\n"

    return places.map(apply)


def numbered(chunk: bytes) -> list[tuple[int, bytes]]:
    """Return the numbered lines of a chunk, as the exact parsers expect them."""
    return list(enumerate(chunk.split(b"\n")[:-1], 1))
