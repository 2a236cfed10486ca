"""Pages of the info API: every fill, slice and status becomes a row with all its values. Bad ones are quarantined."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hl_pipeline.formats import node_fills
from hl_pipeline.formats.api_fills import decode_fills, decode_twap_slices
from hl_pipeline.formats.exact_decode import Json, parse_json
from hl_pipeline.formats.fills import FILL_SCHEMA, BadLine
from hl_pipeline.formats.twap_statuses import TWAP_STATUS_SCHEMA, decode_history
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.strategies import DAY_MS, as_lines, fills

PAGE = read_record("user_fills_by_time_page.json")
ITEMS: list[dict[str, Any]] = json.loads(PAGE)
WALLET = "0x" + "aB" * 20


def _page(items: list[Any]) -> list[Json]:
    return parse_json(json.dumps(items).encode())


def _naive(line: int, fill: dict[str, Any]) -> dict[str, Any]:
    """A row of FILL_SCHEMA of a fill as the real page has them, read as simply as can be."""
    row: dict[str, Any] = dict.fromkeys(FILL_SCHEMA)
    row |= {name: fill[name] for name in ("coin", "side", "dir", "oid", "crossed", "tid")}
    row |= {"wallet": WALLET.lower(), "line": line, "fee_token": fill["feeToken"], "twap_id": fill["twapId"]}
    row |= {"px": Decimal(fill["px"]), "sz": Decimal(fill["sz"]), "fee": Decimal(fill["fee"])}
    row |= {"start_position": Decimal(fill["startPosition"]), "closed_pnl": Decimal(fill["closedPnl"])}
    row |= {"hash": bytes.fromhex(fill["hash"][2:]), "cloid": bytes.fromhex(fill["cloid"][2:])}
    row["time"] = datetime.fromtimestamp(fill["time"] // 1000, UTC).replace(microsecond=fill["time"] % 1000 * 1000)
    return row


def test_the_real_page_is_read_in_every_field() -> None:
    decoded = decode_fills(parse_json(PAGE), WALLET, first_line=5)

    assert decoded.fills.to_dicts() == [_naive(line, fill) for line, fill in enumerate(ITEMS, 5)]
    assert (decoded.bad, decoded.lines, decoded.fills.schema) == ([], 2000, FILL_SCHEMA)


def test_an_empty_page_is_no_rows() -> None:
    for decode in (decode_fills, decode_twap_slices):
        decoded = decode([], WALLET)
        assert (decoded.fills.height, decoded.fills.schema, decoded.bad, decoded.lines) == (0, FILL_SCHEMA, [], 0)


@given(made=st.lists(fills(DAY_MS), max_size=4))
def test_any_legal_fill_is_what_node_fills_makes_of_it(made: list[dict[str, Any]]) -> None:
    text = as_lines(made, spaced=False, ascii_only=False)
    expected = node_fills.decode_chunk(as_lines([[WALLET, fill] for fill in made], spaced=False, ascii_only=False))
    decoded = decode_fills([parse_json(line) for line in text.splitlines()] if made else [], WALLET)
    assert expected.bad == decoded.bad == []
    assert decoded.fills.equals(expected.fills)


@given(made=st.lists(st.tuples(fills(DAY_MS), st.integers(0, 2**50)), max_size=4))
def test_a_slice_is_its_fill_with_the_id_of_its_twap(made: list[tuple[dict[str, Any], int]]) -> None:
    made = [(fill if fill.get("twapId") is None else {**fill, "twapId": twap}, twap) for fill, twap in made]
    decoded = decode_twap_slices(_page([{"fill": fill, "twapId": twap} for fill, twap in made]), WALLET)
    expected = decode_fills(_page([{**fill, "twapId": twap} for fill, twap in made]), WALLET)
    assert decoded.bad == []
    assert decoded.fills.equals(expected.fills)
    assert decoded.fills["twap_id"].to_list() == [twap for _, twap in made]


def test_fields_around_the_fill_of_a_slice_are_kept_and_its_id_is_found_anywhere() -> None:
    fill = {**ITEMS[0], "new": 1}
    items = [
        {"fill": fill, "twapId": 7, "sliceNo": 3},
        {"fill": {**fill, "twapId": 8}, "twapId": None},
        {"fill": fill},
        {"twapId": 9, "fill": {**fill, "twapId": 9}},
    ]
    decoded = decode_twap_slices(_page(items), WALLET)
    assert decoded.fills["twap_id"].to_list() == [7, 8, None, 9]
    assert [json.loads(extra) for extra in decoded.fills["extra"]] == [{"new": 1, "_slice": {"sliceNo": 3}}, *[{"new": 1}] * 3]


_FILL = ITEMS[3]
_BAD_FILLS: list[tuple[Any, str]] = [
    (_FILL | {"px": "1.12345678901"}, 'px: "1.12345678901" has more than 10 decimals'),
    (_FILL | {"sz": "NaN"}, 'sz: "NaN" is not a decimal number'),
    (_FILL | {"tid": None}, "tid is missing"),
    (_FILL | {"time": _FILL["time"] // 1000}, "time: 1763744299 is not a time in the years 2023 to 2199 in ms"),
    (_FILL | {"side": "buy"}, "side: \"buy\" is neither 'A' nor 'B'"),
    (_FILL | {"_slice": 1}, "_slice is reserved by hl-pipeline, but the fill has this field"),
    (5, "a fill must be an object, not 5"),
    (None, "a fill must be an object, not null"),
]
_BAD_SLICES: list[tuple[Any, str]] = [
    ({"fill": _FILL, "twapId": 1.5}, "twapId: 1.5 is not an integer"),
    ({"fill": _FILL | {"twapId": 4}, "twapId": 5}, "twapId: 5 of the slice is not 4 of its fill"),
    ({"fill": _FILL | {"sz": "?"}, "twapId": 5}, 'sz: "?" is not a decimal number'),
    ({"twapId": 5}, 'a slice must be an object with a fill, this is {"twapId":5}'),
    ([_FILL], f"a slice must be an object with a fill, this is {json.dumps([_FILL], separators=(',', ':'))[:77]}..."),
]


@pytest.mark.parametrize(
    ("item", "reason", "is_slice"), [*((*bad, False) for bad in _BAD_FILLS), *((*bad, True) for bad in _BAD_SLICES)]
)
def test_an_item_that_does_not_fit_is_quarantined_and_stops_no_other(item: Any, reason: str, is_slice: bool) -> None:
    good = [{"fill": fill, "twapId": 1} if is_slice else fill for fill in ITEMS[:2]]
    decode = decode_twap_slices if is_slice else decode_fills
    decoded = decode(_page([good[0], item, good[1]]), WALLET, first_line=10)
    assert decoded.bad == [BadLine(11, None, reason, json.dumps(item, separators=(",", ":")).encode())]
    assert decoded.fills["line"].to_list() == [10, 12]
    assert decoded.fills["tid"].to_list() == [ITEMS[0]["tid"], ITEMS[1]["tid"]]


def test_a_key_that_stands_twice_is_quarantined() -> None:
    text = json.dumps([ITEMS[0]]).encode()
    [bad] = decode_fills(parse_json(text.replace(b'"px"', b'"px": "1", "px"')), WALLET).bad
    assert bad.reason == "the key 'px' appears twice in one object"
    assert bad.text.count(b'"px":') == 2
    slices = parse_json(b'[{"twapId": 1, "twapId": 2, "fill": %s}]' % text[1:-1])
    assert decode_twap_slices(slices, WALLET).bad[0].reason == "the key 'twapId' appears twice in one object"


def _status(**changes: Any) -> dict[str, Any]:
    state = {
        "coin": "BTC", "user": WALLET, "side": "B", "sz": "2.50", "executedSz": "1.25", "executedNtl": "125000.0000000001",
        "minutes": 30, "reduceOnly": False, "randomize": True, "timestamp": 1747000000123,
    }  # fmt: skip
    made = {"time": 1747001800, "state": state, "status": {"status": "finished"}, "twapId": 77} | changes
    return {name: value for name, value in made.items() if value is not ...}


def test_the_history_of_twaps_has_seconds_and_an_id_where_the_api_tells_one() -> None:
    other = {"status": "error", "description": "Insufficient margin"}
    items = [_status(), _status(twapId=..., time=1747000000, status={"status": "activated"}), _status(twapId=None, status=other)]
    decoded = decode_history(_page(items), WALLET, first_line=3)

    common = {
        "wallet": WALLET.lower(), "coin": "BTC", "side": "B", "size_requested": Decimal("2.5"), "size_executed": Decimal("1.25"),
        "notional_executed": Decimal("125000.0000000001"), "duration_minutes": 30, "reduce_only": False, "randomize": True,
        "started_at": datetime(2025, 5, 11, 21, 46, 40, 123000, UTC), "block_number": None,
    }  # fmt: skip
    own: list[dict[str, Any]] = [
        {"twap_id": 77, "time_ns": 1747001800 * 10**9, "status": "finished", "error": None, "line": 3},
        {"twap_id": None, "time_ns": 1747000000 * 10**9, "status": "activated", "error": None, "line": 4},
        {"twap_id": None, "time_ns": 1747001800 * 10**9, "status": "error", "error": "Insufficient margin", "line": 5},
    ]
    assert decoded.bad == []
    assert decoded.statuses.schema == TWAP_STATUS_SCHEMA
    assert decoded.statuses.drop("raw").to_dicts() == [common | row for row in own]
    assert [json.loads(raw) for raw in decoded.statuses["raw"]] == items
    assert "time: integers in s" in decoded.notes


def test_a_status_without_a_user_is_the_wallets_and_a_bad_one_is_quarantined() -> None:
    state = {name: value for name, value in _status()["state"].items() if name != "user"}
    items = [_status(state=state), _status(status=...), 7, _status(time="soon"), _status(twapId="x")]
    decoded = decode_history(_page(items), WALLET)
    assert decoded.statuses["wallet"].to_list() == [WALLET.lower()]
    assert [json.loads(raw) for raw in decoded.statuses["raw"]] == [items[0]]
    assert [(bad.line, bad.reason) for bad in decoded.bad] == [
        (2, "status is missing"),
        (3, "an event of TWAP statuses must be an object, not 7"),
        (4, 'time: "soon" is not a time'),
        (5, 'twap_id: "x" is not an integer'),
    ]
    assert [json.loads(bad.text) for bad in decoded.bad] == items[1:]


def test_the_frames_of_pages_and_of_other_formats_are_of_one_kind() -> None:
    by_node = node_fills.decode_chunk(as_lines([[WALLET, fill] for fill in ITEMS[:3]], spaced=False, ascii_only=False)).fills
    both = pl.concat([decode_fills(_page(ITEMS[:3]), WALLET).fills, by_node])
    assert both[:3].equals(both[3:])
