"""Legal blocks of fills, for hypothesis: every field in every form that FORMATS allows, and unknown ones."""

from __future__ import annotations

import json
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
_RESERVED = {*_KNOWN, *_OPTIONAL, "time", "_missing", "_block"}
_unknown = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda name: name not in _RESERVED), json_values, max_size=2)


@st.composite
def fills(draw: st.DrawFn, time_ms: int) -> dict[str, Any]:
    """A fill of that moment: its keys in any order, optional ones there or not, unknown ones now and then."""
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
    """Some blocks of 2026-03-15, numbered through; a fill is not there twice."""
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


def as_lines(made: list[dict[str, Any]], *, spaced: bool, ascii_only: bool) -> bytes:
    """The blocks as lines, compact as the node writes them or with spaces."""
    separators = (", ", ": ") if spaced else (",", ":")
    return b"".join(
        json.dumps(block, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") + b"\n"
        for block in made
    )
