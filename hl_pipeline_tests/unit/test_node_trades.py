"""node_trades: every trade becomes two legs, with all values of its line and no others."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.formats import node_trades
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.fills import FILL_SCHEMA
from hl_pipeline.formats.node_trades import decode_chunk
from hl_pipeline_tests.profiles import examples
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import as_lines, damaged, numbered, trades

REAL = read_record("node_trades_20250624_2.jsonl")
LINES = REAL.splitlines(keepends=True)
TRADE: dict[str, Any] = json.loads(LINES[0])


def _time_ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp()) * 10**9 + int(fraction.ljust(9, "0"))


def _naive(line: int, trade: dict[str, Any]) -> list[dict[str, Any]]:
    """The two rows of FILL_SCHEMA of an ordinary trade, read as simply as can be."""
    rows: list[dict[str, Any]] = []
    for leg, other, side in zip(trade["side_info"], reversed(trade["side_info"]), "BA", strict=True):
        rows.append(
            dict.fromkeys(FILL_SCHEMA)
            | {
                "time": datetime.fromisoformat(trade["time"][:23]).replace(tzinfo=UTC),
                "block_time_ns": _time_ns(trade["time"]),
                "coin": trade["coin"],
                "wallet": leg["user"],
                "side": side,
                "px": Decimal(trade["px"]),
                "sz": Decimal(trade["sz"]),
                "start_position": Decimal(leg["start_pos"]),
                "hash": bytes.fromhex(trade["hash"][2:]),
                "oid": leg["oid"],
                "counterparty_oid": other["oid"],
                "crossed": side == trade["side"],
                "cloid": None if leg["cloid"] is None else bytes.fromhex(leg["cloid"][2:]),
                "twap_id": leg["twap_id"],
                "line": line,
            }
        )
    return rows


def _changed(
    fields: dict[str, Any] | None = None,
    *,
    buyer: dict[str, Any] | None = None,
    seller: dict[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """The first real line changed; an ellipsis takes a field away."""
    legs = [leg | (changes or {}) for leg, changes in zip(TRADE["side_info"], (buyer, seller), strict=True)]
    trade = TRADE | {"side_info": legs} | (fields or {}) | more
    return as_lines([_without_ellipses(trade)], spaced=False, ascii_only=True)


def _without_ellipses(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_ellipses(item) for name, item in value.items() if item is not ...}
    return [_without_ellipses(item) for item in value] if isinstance(value, list) else value


def _extras(line: bytes) -> list[Any]:
    decoded = decode_chunk(line)
    assert decoded.bad == []
    return [json.loads(extra or "{}") for extra in decoded.fills["extra"]]


def test_the_real_trades_are_read_the_fast_way_in_every_field(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [row for line, text in enumerate(LINES, 1) for row in _naive(line, json.loads(text))]
    assert node_trades._decode_exactly(numbered(REAL)).fills.to_dicts() == expected
    monkeypatch.setattr(node_trades, "_take_trade", None)
    decoded = decode_chunk(REAL)
    assert decoded.fills.to_dicts() == expected
    assert (len(expected), decoded.lines, decoded.bad, len(decoded.blocks.numbers)) == (50, 25, [], 0)
    assert decoded.fills.schema == FILL_SCHEMA
    assert {"twap_id": 822427, "side": "A", "crossed": True}.items() <= expected[49].items()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        *((_changed({name: ...}), f"{name} is missing") for name in ("coin", "side", "time", "px", "sz", "side_info")),
        *((_changed({name: None}), f"{name} is missing") for name in ("coin", "side", "time", "px", "sz", "side_info")),
        (_changed(buyer={"user": ...}), "user is missing"),
        (_changed(seller={"oid": ...}), "oid is missing"),
        (_changed(seller={"oid": None}), "oid is missing"),
        (_changed(seller={"oid": 2**63}), "oid: 9223372036854775808 does not fit in 64 bits"),
        (_changed(buyer={"oid": True}), "oid: true is not an integer"),
        (_changed(buyer={"twap_id": "x"}), 'twap_id: "x" is not an integer'),
        (_changed(buyer={"user": "0x12"}), 'user: "0x12" is not an address (0x and 40 hex digits)'),
        (_changed(buyer={"start_pos": "1.12345678901"}), 'start_pos: "1.12345678901" has more than 10 decimals'),
        (_changed(buyer={"_trade": 1}), "_trade is reserved by hl-pipeline, but the fill has this field"),
        (_changed(side_info=[]), "side_info must be the two legs, each an object"),
        (_changed(side_info=TRADE["side_info"][:1]), "side_info must be the two legs, each an object"),
        (_changed(side_info=TRADE["side_info"] * 2), "side_info must be the two legs, each an object"),
        (_changed(side_info=[*TRADE["side_info"], TRADE["side_info"][0]]), "side_info must be the two legs, each an object"),
        (_changed(side_info=[TRADE["side_info"][0], 5]), "side_info must be the two legs, each an object"),
        (_changed(side_info={"0": 1, "1": 2}), "side_info must be the two legs, each an object"),
        (_changed(side="C"), "side: \"C\" is neither 'A' nor 'B'"),
        (_changed(coin=""), 'coin: "" is not a name'),
        (_changed(coin=5), "coin: 5 is not a name"),
        (_changed(px="cheap"), 'px: "cheap" is not a decimal number'),
        (_changed(px="NaN"), 'px: "NaN" is not a decimal number'),
        (_changed(px=float("nan")), "not JSON: NaN"),
        (_changed(sz="1" * 29), f'sz: "{"1" * 29}" has more than 28 digits before the point'),
        (_changed(time=1750733796172), "time: 1750733796172 is not a time like 2026-03-15T00:00:00.196239755"),
        (_changed(time="2025-02-30T00:00:00"), 'time: "2025-02-30T00:00:00": day '),
        (_changed(time="2025-06-24T23:59:60"), 'time: "2025-06-24T23:59:60": second must be in 0..59'),
        (_changed(time="2022-12-31T23:59:59.999999999"),
         "time: 1672531199999 is not a time in the years 2023 to 2199 in ms"),
        (_changed(time="2200-01-01T00:00:00"), 'time: "2200-01-01T00:00:00" is not in the years 2000 to 2199'),
        (LINES[0].replace(b'"sz"', b'"px":"1","sz"'), "the key 'px' appears twice in one object"),
        (LINES[0].replace(b'"oid"', b'"oid":1,"oid"', 1), "the key 'oid' appears twice in one object"),
        (b"[1,2]\n", "a line must be an object: a trade with side_info"),
        (b"no json\n", "not JSON: Expecting value at character 1"),
        (LINES[0].replace(b"@151", b"\xff\xfe"), "not UTF-8: invalid start byte at byte 10"),
        (LINES[0][:-3] + b"\n", "not JSON: Expecting ',' delimiter at character 497"),
    ],
)  # fmt: skip
def test_a_line_that_does_not_fit_is_quarantined_with_both_legs_and_stops_no_other(line: bytes, reason: str) -> None:
    for chunk in (LINES[1] + line + LINES[2], LINES[1] * 200 + line + LINES[2] * 200):
        decoded = decode_chunk(chunk, first_line=10)
        [bad] = decoded.bad
        before = chunk[: chunk.index(line)].count(b"\n")
        assert (bad.line, bad.event, bad.text) == (10 + before, None, line[:-1])
        assert bad.reason.startswith(reason)
        assert decoded.fills["line"].to_list() == [10 + n for n in range(decoded.lines) for _ in "BA" if n != before]


@pytest.mark.parametrize("digits", ["", ".1", ".196", ".196239", ".196239755", ".000000001"])
def test_a_time_of_any_precision_is_cut_to_ms_and_kept_in_ns(digits: str) -> None:
    decoded = decode_chunk(_changed(time="2025-06-24T02:56:36" + digits))
    nanoseconds = int(digits[1:].ljust(9, "0"))
    assert decoded.fills["block_time_ns"].to_list() == [1750733796 * 10**9 + nanoseconds] * 2
    assert decoded.fills["time"].dt.epoch("ms").to_list() == [1750733796000 + nanoseconds // 10**6] * 2


def test_the_first_and_the_last_moment_are_taken() -> None:
    decoded = decode_chunk(_changed(time="2023-01-01T00:00:00") + _changed(time="2199-12-31T23:59:59.999999999"))
    assert (decoded.bad, decoded.fills["time"].dt.year().to_list()) == ([], [2023, 2023, 2199, 2199])


def test_an_unknown_field_of_a_leg_is_that_legs_alone() -> None:
    assert _extras(_changed(buyer={"tier": "gold"})) == [{"tier": "gold"}, {}]
    assert _extras(_changed(seller={"cloid": "0x12", "hash": 1})) == [{}, {"hash": 1, "cloid": "0x12"}]


def test_what_is_odd_in_a_trade_is_told_on_both_legs() -> None:
    assert _extras(_changed(trade_dir_override="Settlement")) == [{"_trade": {"trade_dir_override": "Settlement"}}] * 2
    assert _extras(_changed(trade_dir_override=None)) == [{"_trade": {"trade_dir_override": None}}] * 2
    assert _extras(_changed(hash="0xabc", liq={"a": [1]})) == [{"_trade": {"liq": {"a": [1]}, "hash": "0xabc"}}] * 2


def test_keys_that_are_missing_are_named_and_nulls_are_not() -> None:
    assert _extras(_changed(trade_dir_override=..., hash=...)) == [{"_missing": ["hash", "trade_dir_override"]}] * 2
    legs = {"twap_id": ..., "cloid": ..., "start_pos": ...}
    assert _extras(_changed(buyer=legs)) == [{"_missing": ["start_pos", "twap_id", "cloid"]}, {}]
    assert _extras(_changed(hash=None, buyer=dict.fromkeys(legs))) == [{}, {}]


def test_an_unknown_field_of_the_trade_may_have_a_name_of_ours() -> None:
    assert _extras(_changed(_missing=5, hash=...)) == [{"_trade": {"_missing": 5}, "_missing": ["hash"]}] * 2


def test_a_self_trade_is_two_rows_that_differ_in_side_order_and_role() -> None:
    decoded = decode_chunk(_changed(seller={"user": TRADE["side_info"][0]["user"]}))
    rows = decoded.fills.select("wallet", "side", "oid", "counterparty_oid", "crossed").rows()
    user, (buys, sells) = TRADE["side_info"][0]["user"], (leg["oid"] for leg in TRADE["side_info"])
    assert rows == [(user, "B", buys, sells, False), (user, "A", sells, buys, True)]


def test_odd_lines_stay_where_they_stand() -> None:
    lines = [_changed({"other": n} if n % 3 == 1 else {}, sz="bad" if n % 5 == 2 else str(n)) for n in range(50)]
    decoded = decode_chunk(b"".join(lines))
    good = [n for n in range(50) if n % 5 != 2]
    assert decoded.fills.select("line", "side", "sz").rows() == [(n + 1, side, Decimal(n)) for n in good for side in "BA"]
    assert [bad.line for bad in decoded.bad] == [n + 1 for n in range(50) if n % 5 == 2]


def test_lines_are_numbered_through_all_chunks_and_blank_lines_count() -> None:
    chunks = [LINES[0] + b"\n", b"  \nbroken\n", LINES[1] + b"\n" + LINES[2]]
    decoded = list(decode(chunks, decode_chunk, threads=2))
    assert [bad.line for part in decoded for bad in part.bad] == [4]
    assert [part.fills["line"].to_list() for part in decoded] == [[1, 1], [], [5, 5, 7, 7]]
    assert sum(part.lines for part in decoded) == 7


def test_spelling_changes_nothing() -> None:
    expected = decode_chunk(REAL).fills
    made = [json.loads(line) for line in LINES]
    turned = [
        {**dict(reversed(trade.items())), "side_info": [dict(reversed(leg.items())) for leg in trade["side_info"]]}
        for trade in made
    ]
    spellings = [
        as_lines(turned, spaced=False, ascii_only=True),
        as_lines(made, spaced=True, ascii_only=True),
        REAL.replace(b"\n", b"\r\n"),
        REAL.replace(b"@107", b"\\u0040107"),
        REAL.replace(b'"px":"', b'"px":"0'),
        as_lines([_with_upper_case(trade) for trade in made], spaced=False, ascii_only=True),
    ]
    for spelling in spellings:
        assert decode_chunk(spelling).fills.equals(expected)


def _with_upper_case(trade: dict[str, Any]) -> dict[str, Any]:
    legs = [{**leg, "user": "0x" + leg["user"][2:].upper()} for leg in trade["side_info"]]
    return {**trade, "hash": "0x" + trade["hash"][2:].upper(), "side_info": legs}


def _known(made: dict[str, Any]) -> dict[str, Any]:
    """A trade with its values as the rows have them."""
    legs = [dict(leg) for leg in made["side_info"]]
    for leg in legs:
        if leg.get("start_pos") is not None:
            leg["start_pos"] = Decimal(leg["start_pos"])
    return {**made, "time": _time_ns(made["time"]), "px": Decimal(made["px"]), "sz": Decimal(made["sz"]), "side_info": legs}


def _hex(value: bytes | None) -> str | None:
    return None if value is None else "0x" + value.hex()


def _trade_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The trade that two rows came from."""
    buyer, seller = rows
    extras = [json.loads(row["extra"] or "{}") for row in rows]
    missing = [set(extra.pop("_missing", [])) for extra in extras]
    of_trade, also = [extra.pop("_trade", {}) for extra in extras]
    same = ("time", "block_time_ns", "coin", "px", "sz", "hash", "line")
    assert of_trade == also
    assert [buyer[name] for name in same] == [seller[name] for name in same]
    assert (buyer["side"], seller["side"], buyer["counterparty_oid"]) == ("B", "A", seller["oid"])
    assert (buyer["oid"], buyer["crossed"]) == (seller["counterparty_oid"], not seller["crossed"])
    assert (buyer["time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1) == buyer["block_time_ns"] // 10**6
    trade = {
        "coin": buyer["coin"],
        "side": "B" if buyer["crossed"] else "A",
        "time": buyer["block_time_ns"],
        "px": buyer["px"],
        "sz": buyer["sz"],
        "hash": _hex(buyer["hash"]),
        "trade_dir_override": "Na",
        "side_info": [
            {
                name: value
                for name, value in {
                    "user": row["wallet"],
                    "start_pos": row["start_position"],
                    "oid": row["oid"],
                    "twap_id": row["twap_id"],
                    "cloid": _hex(row["cloid"]),
                }.items()
                if name not in lacks
            }
            | extra
            for row, extra, lacks in zip(rows, extras, missing, strict=True)
        ],
    }
    return {name: value for name, value in trade.items() if name not in missing[0]} | of_trade


@examples(150)
@given(made=st.lists(trades(), max_size=4), spaced=st.booleans(), ascii_only=st.booleans())
def test_any_legal_trade_can_be_told_from_its_rows(made: list[dict[str, Any]], spaced: bool, ascii_only: bool) -> None:
    chunk = as_lines(made, spaced=spaced, ascii_only=ascii_only)
    decoded = decode_chunk(chunk)
    assert decoded.bad == []
    assert decoded.fills.equals(node_trades._decode_exactly(numbered(chunk)).fills)
    rows = decoded.fills.to_dicts()
    assert [_trade_of(rows[n : n + 2]) for n in range(0, len(rows), 2)] == list(map(_known, made))


_SMALL = b"".join(LINES[n] for n in (0, 2, 24))
_PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\\",
    b"0",
    b"-",
    b"1",
    b"00",
    b".",
    b" ",
    b"null",
    b"},{",
    b'"null"',
    b'"twap_id":1,',
    b"\xc3\xa9",
    b"A",
    b"9",
]


@examples(400)
@given(damaged(_SMALL, _PIECES))
def test_whatever_the_damage_the_fast_way_takes_and_refuses_what_the_exact_way_does(chunk: bytes) -> None:
    fast, exact = decode_chunk(chunk), node_trades._decode_exactly(numbered(chunk))

    assert fast.fills.equals(exact.fills)
    assert (fast.bad, fast.lines) == (exact.bad, exact.lines)
