"""Fills keep the order of their source: from the bytes of an object to the lake, hl.fills, REST, CSV and Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import lz4.frame
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest

from hl_pipeline.domain.object_keys import place_of_key
from hl_pipeline.formats.api_fills import decode_fills
from hl_pipeline.formats.exact_decode import parse_json
from hl_pipeline.lake.api_fills import add_api_fills
from hl_pipeline.lake.fills import list_raw_objects, read_fills
from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.stages.raw_tables import FILL_FORMATS, ObjectBytes, table_of
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, read_bucket, stored_fills, without, write_object
from hl_pipeline_tests.records.reading import read_record
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, serving

DAY = date(2026, 3, 15)
NOON = datetime(2026, 3, 15, 12, tzinfo=UTC)
FILLS = "/api/v1/fills"
TAKER = "0x" + "0" * 39 + "1"
OF_DAY = {"start": str(DAY), "end": str(DAY)}


def _fill(moment: datetime, tid: int, **other: Any) -> dict[str, Any]:
    return {
        "coin": "ETH",
        "px": "100.0",
        "sz": "1.0",
        "side": "B",
        "time": int(moment.timestamp() * 1000),
        "startPosition": "0.0",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": "0x" + 64 * "0",
        "oid": tid,
        "crossed": True,
        "fee": "0.0",
        "tid": tid,
        "feeToken": "USDC",
        "twapId": None,
        **other,
    }


def _block(number: int, moment: datetime, events: Iterable[tuple[str, dict[str, Any]]], ns: int = 0) -> bytes:
    text = f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}{ns:06}"
    block = {"local_time": text, "block_time": text, "block_number": number, "events": [[*event] for event in events]}
    return json.dumps(block, separators=(",", ":")).encode() + b"\n"


def _sweep() -> tuple[list[tuple[str, dict[str, Any]]], list[tuple[str, dict[str, Any]]]]:
    """An order that closes a short of 5 and goes long within a millisecond, in two blocks: its fills and their makers'."""
    position, blocks = Decimal(-5), ([], [])
    for number, (tid, sz) in enumerate([(900, "2.0"), (300, "3.0"), (700, "1.0"), (100, "2.0"), (500, "4.0")]):
        values = {"px": f"{100 + number}.0", "sz": sz}
        own = _fill(NOON, tid, startPosition=str(position), oid=77, **values)
        makers = _fill(NOON, tid, side="A", crossed=False, dir="Open Short", oid=80 + number, **values)
        blocks[number > 2].extend([(TAKER, own), (f"0x{number + 2:040x}", makers)])
        position += Decimal(sz)
    return blocks


def _ingest(world: World, day: date = DAY, command: str = "ingest") -> None:
    done = run_in_process(Path.cwd(), world.environment, command, "--from", str(day), "--to", str(day))
    assert done.returncode in (0, 3), done.stdout + done.stderr


def _lake_of(world: World) -> Path:
    return Path(world.environment["HL_LAKE_URL"])


def _read_lake(world: World) -> list[dict[str, Any]]:
    return [
        row for path in sorted(_lake_of(world).glob(f"fills/date={DAY}/*.parquet")) for row in pl.read_parquet(path).to_dicts()
    ]


def _chains(fills: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Of fills of perpetuals in an order: how many start where the wallet's one before in the coin ended, and how many do not."""
    ended: dict[tuple[str, str], Decimal] = {}
    found = Counter[bool]()
    for fill in fills:
        if fill["coin"][0] in "@#" or "/" in fill["coin"]:
            continue
        pair, start = (fill["wallet"], fill["coin"]), Decimal(fill["start_position"])
        if pair in ended:
            found[ended[pair] == start] += 1
        ended[pair] = start + Decimal(fill["sz"]) * (1 if fill["side"] == "B" else -1)
    return found[True], found[False]


@pytest.mark.slow
def test_fills_of_a_millisecond_are_everywhere_in_the_order_of_the_source(world: World) -> None:
    first, second = _sweep()
    # The later block has the lower nanoseconds of the same millisecond, and is in both objects of its hour's edge.
    later = _block(51, NOON, second, ns=5)
    write_object(world.bucket, NOON, _block(50, NOON, first, ns=9) + later)
    write_object(world.bucket, NOON + timedelta(hours=1), later + _block(52, NOON + timedelta(hours=1), []))
    # What the API alone has of that millisecond comes last, in its own order.
    of_api = [_fill(NOON, tid, px="107.0", startPosition=start) for tid, start in ((9, "8.0"), (3, "9.0"), (7, "10.0"))]
    page = decode_fills(parse_json(json.dumps(of_api).encode()), TAKER).fills
    _ingest(world)
    add_api_fills(open_lake(world.environment["HL_LAKE_URL"]), DAY, "00", page)
    _ingest(world)
    tids, starts = [900, 300, 700, 100, 500, 9, 3, 7], [-5, -3, 0, 1, 3, 8, 9, 10]

    stored = [fill for fill in stored_fills(world.database_url) if fill["user"] == TAKER]
    assert [(fill["tid"], fill["startPosition"]) for fill in stored] == list(zip(tids, starts, strict=True))
    assert [fill["ordinal"] for fill in stored] == [0, 2, 4, 6, 8, 0, 1, 2]
    in_lake = [row for row in _read_lake(world) if row["wallet"] == TAKER]
    assert [(row["tid"], row["ordinal"]) for row in in_lake] == [(fill["tid"], fill["ordinal"]) for fill in stored]
    with serving(world.database_url) as api:
        asked = {"wallet": TAKER, **OF_DAY}
        assert [fill["tid"] for fill in api.get(FILLS, **asked)["fills"]] == tids
        for limit in (1, 2, 3, 7):
            assert [fill["tid"] for page in api.pages(FILLS, "fills", **asked, limit=limit) for fill in page] == tids
        rows = csv.DictReader(io.StringIO(api.ask(FILLS, **asked, format="csv").text))
        assert [(int(row["tid"]), int(row["ordinal"])) for row in rows] == [(fill["tid"], fill["ordinal"]) for fill in stored]
        table = pq.read_table(io.BytesIO(api.ask(FILLS, **asked, format="parquet").content))
        assert (table["tid"].to_pylist(), str(table.schema.field("ordinal").type)) == (tids, "int32")
        # Both legs of each trade, in the order of the block.
        coins = api.get(FILLS, coin="ETH", **OF_DAY)["fills"]
        assert [(fill["tid"], fill["side"]) for fill in coins[:10]] == [(tid, side) for tid in tids[:5] for side in "BA"]
    with connect(world.database_url, "test") as connection:
        assert connection.execute("SELECT open, close FROM hl.candles WHERE coin = 'ETH'").fetchall() == [(100, 107)]


@pytest.mark.slow
def test_a_generated_day_is_stored_as_the_bucket_has_it_and_positions_prove_it(world: World) -> None:
    write_sample(world.bucket / "made", first_day=DAY, fills_per_hour=200)
    world.environment["HL_NODE_DATA_URL"] = str(world.bucket / "made/hl-mainnet-node-data")
    naive = [expected_fill(*one) for one in read_bucket(world.bucket / "made/hl-mainnet-node-data")]
    _ingest(world)

    # Blocks rise through the objects, so the bucket read from its beginning is the order.
    assert without(stored_fills(world.database_url), "date") == [fill for fill in naive if event_day(fill) == DAY]
    in_lake = _read_lake(world)
    held, broken = _chains(in_lake)
    assert (held > 1_000, broken) == (True, 0)
    # In the order of the trades' numbers it would not hold: the proof is one.
    assert _chains(sorted(in_lake, key=lambda row: (row["time"], row["tid"])))[1] > 10
    wallet, _ = Counter(row["wallet"] for row in in_lake).most_common(1)[0]
    with serving(world.database_url) as api:
        pages = [fill for page in api.pages(FILLS, "fills", wallet=wallet, **OF_DAY, limit=7) for fill in page]
    assert [fill["tid"] for fill in pages] == [row["tid"] for row in in_lake if row["wallet"] == wallet]
    assert _chains(pages)[1] == 0


def _lines_of_blocks(chance: Random) -> Iterable[tuple[bytes, list[int]]]:
    for number in range(600):
        moment = NOON + timedelta(milliseconds=number)
        tids = [chance.randrange(1, 2**50) for _ in range(3)]
        events = [(WALLET, _fill(moment, tid)) for tid in tids]
        odd = number % 97
        if odd == 1:
            events[1][1]["fee"] = "1e-3"
        if odd == 2:
            events[1][1]["px"], tids = "much", tids[::2]
        line = _block(number, moment, events)
        yield (b" " + line if odd == 3 else line), tids


def _lines_of_fills(chance: Random) -> Iterable[tuple[bytes, list[int]]]:
    for number in range(1200):
        tid = chance.randrange(1, 2**50)
        fill = _fill(datetime(2025, 6, 10, 12, tzinfo=UTC) + timedelta(milliseconds=number // 4), tid)
        odd = number % 97
        line: Any = {"user": WALLET, **fill} if odd == 1 else [WALLET, fill | ({"px": "much"} if odd == 2 else {})]
        yield json.dumps(line, separators=(",", ":")).encode() + b"\n", [] if odd == 2 else [tid]


def _lines_of_trades(chance: Random) -> Iterable[tuple[bytes, list[int]]]:
    for number in range(900):
        oids = [chance.randrange(1, 2**40) for _ in "BA"]
        legs = [{"user": WALLET, "start_pos": "0.0", "oid": oid, "twap_id": None, "cloid": None} for oid in oids]
        moment = datetime(2025, 6, 10, 12, tzinfo=UTC) + timedelta(milliseconds=number // 4)
        time = moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "000000"
        trade = {"coin": "ETH", "side": "B", "time": time, "px": "1.0", "sz": "2.0", "hash": "0x" + 64 * "0"}
        trade |= {"trade_dir_override": "Na", "side_info": legs}
        odd = number % 97
        trade |= {"new": 1} if odd == 1 else {"px": "much"} if odd == 2 else {}
        yield json.dumps(trade, separators=(",", ":")).encode() + b"\n", [] if odd == 2 else oids


@pytest.mark.parametrize(
    ("key", "lines", "column"),
    [
        ("node_fills_by_block/hourly/20260315/12.lz4", _lines_of_blocks, "tid"),
        ("node_fills/hourly/20250610/12.lz4", _lines_of_fills, "tid"),
        ("node_trades/hourly/20250610/12.lz4", _lines_of_trades, "oid"),
    ],
)
def test_the_file_of_an_object_has_its_order_whichever_way_it_was_decoded(
    key: str, lines: Callable[[Random], Iterable[tuple[bytes, list[int]]]], column: str, lake: Lake
) -> None:
    """Among the lines are such as only the exact way reads, bad ones, and some that make the chunk be halved."""
    texts, truth = zip(*lines(Random(key)), strict=True)
    content = lz4.frame.compress(b"".join(texts))
    place = place_of_key(key)
    assert place is not None
    table = table_of(place.dataset)
    table.write(lake, place, ObjectBytes(io.BytesIO(content), "lz4", "e", len(content)), 2)
    [meta] = list_raw_objects(lake, place.object_date)
    fills = read_fills(lake, meta)
    assert meta.bad_lines > 3
    assert fills[column].to_list() == [number for numbers in truth for number in numbers]
    assert fills["ordinal"].to_list() == [*range(fills.height)]
    assert place.dataset in FILL_FORMATS


def test_the_api_s_own_order_is_kept_and_is_the_one_in_which_positions_chain(lake: Lake) -> None:
    page: Any = parse_json(read_record("user_fills_by_time_page.json"))
    decoded = decode_fills(page, WALLET).fills
    by_day = decoded.with_columns(date=pl.col("time").dt.date()).partition_by("date", as_dict=True)
    for (day,), fills in by_day.items():
        # In two goes, as when a run was killed, and then again.
        for rows in (fills.head(fills.height // 2), fills.tail(fills.height // 3 * 2), fills):
            meta = add_api_fills(lake, day, "07", rows.drop("date"))
        kept = read_fills(lake, meta)
        assert kept["tid"].to_list() == fills["tid"].to_list()
        assert kept["ordinal"].to_list() == [*range(fills.height)]


def test_of_a_shard_that_0_1_0_wrote_the_order_is_unknown_until_it_comes_again(lake: Lake) -> None:
    page = [_fill(NOON, tid) for tid in (5, 9, 3, 7)]
    fills = decode_fills(parse_json(json.dumps(page).encode()), WALLET).fills
    meta = add_api_fills(lake, DAY, "07", fills)
    path = Path(lake.root) / meta.key
    table = pq.read_table(path)
    # As that version has it: by tid, without a line.
    nothing = pl.Series("line", [None] * 4, pl.Int64).to_arrow()
    old = table.sort_by("tid").set_column(table.schema.get_field_index("line"), "line", nothing)
    pq.write_table(old.replace_schema_metadata(table.schema.metadata), path)

    assert read_fills(lake, meta).select("tid", "ordinal").rows() == [(3, None), (5, None), (7, None), (9, None)]
    again = add_api_fills(lake, DAY, "07", fills.head(2))
    assert read_fills(lake, again).select("tid", "ordinal").rows() == [(5, 0), (9, 1), (3, None), (7, None)]
    again = add_api_fills(lake, DAY, "07", fills)
    assert read_fills(lake, again).select("tid", "ordinal").rows() == [(5, 0), (9, 1), (3, 2), (7, 3)]


def _put_day(connection: psycopg.Connection, tids: Iterable[int | None], object_id: int = 3_028_056) -> None:
    """Fills of two milliseconds in this order; None: here the second one begins."""
    connection.execute("DELETE FROM hl.fills")
    moment = at("2026-03-15 00:00:00.001")
    for ordinal, tid in enumerate(tids):
        if tid is None:
            moment += timedelta(milliseconds=1)
        else:
            add(connection, "fills", {"time": moment, "tid": tid, "ordinal": ordinal, "object_id": object_id})


@pytest.fixture
def paged(database_url: str) -> Iterable[tuple[Api, psycopg.Connection]]:
    with serving(database_url) as api, connect(database_url, "test") as connection:
        yield api, connection


@pytest.mark.slow
def test_over_a_day_that_is_replaced_pages_go_on_without_loss_or_repeat_or_say_409(
    paged: tuple[Api, psycopg.Connection],
) -> None:
    api, connection = paged
    asked = {"wallet": WALLET, **OF_DAY}
    chance = Random(5)
    ended = Counter[int]()
    for _ in range(40):
        moments = [chance.sample(range(1, 9), 3), chance.sample(range(11, 19), 4)]
        _put_day(connection, [*moments[0], None, *moments[1]])
        first = api.get(FILLS, **asked, limit=chance.randint(1, 6))
        for tids in moments:
            if chance.random() < 0.6:
                chance.shuffle(tids)
        _put_day(connection, [*moments[0], None, *moments[1]], object_id=3_028_057)
        response = api.ask(FILLS, **asked, cursor=first["next_cursor"])
        ended[response.status_code] += 1
        if response.status_code == 200:
            found = [fill["tid"] for fill in first["fills"] + response.json()["fills"]]
            assert sorted(found) == sorted([*moments[0], *moments[1]])
    assert ended.keys() == {200, 409}
    assert min(ended.values()) > 5


def test_what_409_says_is_enough_to_go_on(paged: tuple[Api, psycopg.Connection]) -> None:
    api, connection = paged
    asked = {"wallet": WALLET, **OF_DAY}
    _put_day(connection, [1, 2, 3])
    cursor = api.get(FILLS, **asked, limit=2)["next_cursor"]
    _put_day(connection, [1, 3, 2])
    for extra in ({}, {"format": "csv"}):
        response = api.ask(FILLS, **asked, **extra, cursor=cursor)
        assert response.status_code == 409
        assert "request again with start=2026-03-15T00:00:00.001Z" in response.json()["detail"]
    again = api.get(FILLS, **{**asked, "start": "2026-03-15T00:00:00.001Z"})
    assert [fill["tid"] for fill in again["fills"]] == [1, 3, 2]


def test_a_file_begins_where_a_page_ended(paged: tuple[Api, psycopg.Connection]) -> None:
    api, connection = paged
    asked = {"wallet": WALLET, **OF_DAY}
    _put_day(connection, [5, 3, 9, None, 2, 8])
    for limit in (1, 2, 3, 4):
        cursor = api.get(FILLS, **asked, limit=limit)["next_cursor"]
        rows = csv.DictReader(io.StringIO(api.ask(FILLS, **asked, format="csv", cursor=cursor).text))
        assert [int(row["tid"]) for row in rows] == [5, 3, 9, 2, 8][limit:]


def test_a_page_after_many_reads_few_rows(paged: tuple[Api, psycopg.Connection]) -> None:
    _, connection = paged
    add(connection, "fills", {"time": at("2026-03-15 00:00:00"), "ordinal": 0})
    connection.execute(
        "INSERT INTO hl.fills (time, coin, wallet, side, px, sz, object_id, ordinal) "
        "SELECT timestamptz '2026-03-15Z' + n / 4 * interval '1 ms', 'SOL', %s, 'B', 1, 1, 3028056, n "
        "FROM generate_series(1, 100000) n",
        [WALLET],
    )
    connection.execute("VACUUM ANALYZE hl.fills")
    text = (Path(__file__).parents[2] / "api/sql/fills.sql").read_text()
    values: dict[str, Any] = dict.fromkeys(("coin", "twap_id")) | {"wallet": WALLET, "limit": 51, "given": 0}
    values |= {"start": at("2026-03-15 00:00:12"), "end": at("2026-03-16 00:00:00")}
    [[[plan]]] = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {text}".encode(), values).fetchall()

    def scanned(node: dict[str, Any]) -> float:
        own = node["Actual Rows"] if "Relation Name" in node else 0
        return max([own, *map(scanned, node.get("Plans", ()))])

    assert scanned(plan["Plan"]) < 500
