"""The options of `hl ingest`, and `hl reset checkpoint`: the days they select, what they pay, and that rows match the source."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from hl_pipeline.cli.main import app
from hl_pipeline.domain.datasets import TWAP_STATUSES
from hl_pipeline.domain.object_keys import Place, choose_days, place_in_path, place_of_key
from hl_pipeline.domain.shards import shard_of
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.dirty_days import clear_dirty, note_dirty, read_dirty, read_mark
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.servers.info_api import InfoServer, User, serve_info
from hl_pipeline_tests.servers.s3 import REGION, S3Server

FIRST, SECOND = date(2026, 3, 15), date(2026, 3, 16)
_BEFORE = FIRST - timedelta(days=1)
_BY_BLOCK = "node_fills_by_block/hourly"
_LONG_AGO = datetime(2026, 3, 20, tzinfo=UTC)
_SPAN = ["--from", str(FIRST), "--to", str(FIRST)]
_ROWS_AND_OBJECTS = """
SELECT time - 'epoch'::timestamptz, coin, wallet, side, tid, px, fee, object_key
FROM hl.fills JOIN hl.s3_ingest_log USING (object_id)
"""
Hl = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Three hours of a day: enough for everything but a whole day."""
    return write_sample(tmp_path_factory.mktemp("options"), first_day=FIRST, hours=3, fills_per_hour=60)


@pytest.fixture(scope="module")
def dagster_url(new_database: NewDatabase) -> str:
    return new_database("template0")


@pytest.fixture
def hl(world: World, made: Sample, dagster_url: str, monkeypatch: pytest.MonkeyPatch) -> Hl:
    """The command line in a world whose bucket is a copy of the generated one, of long ago."""
    monkeypatch.setenv("HL_DAGSTER_DATABASE_URL", dagster_url)
    shutil.copytree(made.node_data_dir, world.bucket, dirs_exist_ok=True)
    for path in world.bucket.rglob("*.lz4"):
        os.utime(path, _times(_LONG_AGO))

    def run(*words: str, answer: str | None = None, **variables: str) -> Result:
        return CliRunner().invoke(app, [*words], input=answer, env=variables)

    return run


@pytest.fixture
def bucket(s3: S3Server, made: Sample, hl: Hl, world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """The generated objects in a bucket whose requester pays, and settings that take them from there."""
    del hl, world
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in made.node_data_dir.rglob("*.lz4"):
        s3.client().put_object(Bucket=name, Key=str(path.relative_to(made.node_data_dir)), Body=path.read_bytes())
    for variable, value in {**s3.environment, "HL_NODE_DATA_URL": f"s3://{name}"}.items():
        monkeypatch.setenv(variable, value)
    return name


def _object(root: Path, hour: int, day: date = FIRST) -> Path:
    return root / f"{_BY_BLOCK}/{day:%Y%m%d}/{hour}.lz4"


def _times(moment: datetime) -> tuple[float, float]:
    return moment.timestamp(), moment.timestamp()


def _key(hour: int, day: date = FIRST) -> str:
    return f"{_BY_BLOCK}/{day:%Y%m%d}/{hour}.lz4"


def _days(done: Result) -> list[str]:
    """The days that were run, in order."""
    return [line.split()[0] for line in done.stdout.splitlines() if " fills " in line and " MB fetched " in line]


def _expected(root: Path, *days: date) -> list[dict[str, object]]:
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(root)]
    return in_order([fill for fill in every if event_day(fill) in days])


def _stored(world: World) -> list[dict[str, object]]:
    return in_order(without(stored_fills(world.database_url), "date"))


def _gets(world: World) -> list[str]:
    with connect(world.database_url) as connection:
        rows = connection.execute("SELECT key FROM hl.s3_requests WHERE method = 'GET' ORDER BY key").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("key", "begun", "days"),
    [
        (_key(5), {_BEFORE}, [FIRST]),
        (_key(0), {_BEFORE}, [_BEFORE, FIRST]),
        (_key(0), set(), [FIRST]),
        (_key(0, SECOND + timedelta(days=1)), {SECOND}, [SECOND]),
        ("node_fills/hourly/20250727/8.lz4", set(), [date(2025, 7, 27)]),
        ("node_fills_by_block/hourly/20260315/5", set(), [FIRST]),
        ("node_fills_by_block/hourly/20260315/0.jsonl", {_BEFORE}, [_BEFORE, FIRST]),
        ("node_fills/hourly/20250727/9.lz4", set(), []),
        ("2026/03/15/part-0.parquet", {_BEFORE, SECOND}, [_BEFORE, FIRST, SECOND]),
        ("2026/03/15/part-0.parquet", set(), [FIRST]),
    ],
)
def test_an_object_touches_its_own_day_and_those_beside_it_that_were_begun(key: str, begun: set[date], days: list[date]) -> None:
    place = place_of_key(key)
    assert place is not None
    assert choose_days([place], begun, None, None, SECOND) == days


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/tmp/x/node_fills_by_block/hourly/20260315/9.lz4", Place("node_fills_by_block", FIRST, 9, _key(9))),
        ("node_trades/hourly/20250401/09.gz", Place("node_trades", date(2025, 4, 1), 9, "node_trades/hourly/20250401/09.gz")),
        ("/x/node_fills/hourly/20250601/9", Place("node_fills", date(2025, 6, 1), 9, "node_fills/hourly/20250601/9.lz4")),
        ("/x/node_fills/hourly/20250601/09.jsonl", Place("node_fills", date(2025, 6, 1), 9, "node_fills/hourly/20250601/9.lz4")),
        ("/x/raw/twap_statuses/2025/11/03/a.parquet", Place(TWAP_STATUSES.name, date(2025, 11, 3), None, "2025/11/03/a.parquet")),
        ("/x/twap_statuses/hourly/20251103/7.lz4", Place(TWAP_STATUSES.name, date(2025, 11, 3), 7, "hourly/20251103/7.lz4")),
        ("/x/node_fills/hourly/20251301/9.lz4", None),
        ("/x/node_fills/hourly/20250601/24.lz4", None),
        ("/x/other/hourly/20250601/9.lz4", None),
        ("/x/twap_statuses/9.lz4", None),
        ("/x/9.lz4", None),
    ],
)
def test_a_path_that_ends_like_a_key_tells_which_object_it_is(path: str, place: Place | None) -> None:
    assert place_in_path(path) == place


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--from and --to must be given, or one of --since, --object-key, --local-file, --dirty"),
        (["--from", "2026-03-15"], "--from and --to must be given"),
        (["--since", "2026-03-15", "--dirty"], "--since and --dirty exclude each other"),
        (["--since", "yesterday"], "'yesterday' is not a time like 2026-03-15T14:00:00Z"),
        (["--object-key", "x", "--local-file", "y"], "--object-key and --local-file exclude each other"),
        ([*_SPAN, "--force", "--redownload"], "--force and --redownload exclude each other"),
        (["--since", "2026-03-15", "--force"], "--since and --force exclude each other: it reads no bucket"),
        (["--dirty", "--redownload"], "--dirty and --redownload exclude each other"),
        ([*_SPAN, "--as", _key(9)], "--as KEY needs exactly one --local-file"),
        ([*_SPAN, "--yes"], "--yes needs --redownload"),
        (["--dirty", "--from", "2026-03-16", "--to", "2026-03-15"], "--to 2026-03-15 is before --from 2026-03-16"),
    ],
)
def test_options_that_exclude_each_other_are_named(words: list[str], message: str, world: World) -> None:
    done = CliRunner().invoke(app, ["ingest", *words])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("\u2502", " ").split())
    assert not world.home.exists()


@pytest.mark.slow
def test_an_object_key_takes_its_day_and_since_those_of_what_came_after(hl: Hl, world: World) -> None:
    for key, message in (
        (_key(9), f"{_key(9)} is not in {world.bucket}; its objects of that day: {_key(0)}, {_key(1)}, {_key(2)}"),
        ("fills/9.lz4", "fills/9.lz4 is not a known form of key; known forms are node_fills_by_block/hourly/20260315/9.lz4"),
        ("node_fills/hourly/20260315/9.lz4", "node_fills has hours from 2025-05-25 14 h to 2025-07-27 08 h"),
    ):
        wrong = hl("ingest", "--object-key", key)
        assert (wrong.exit_code, message in wrong.stderr) == (2, True), wrong.stderr
    assert not Path(world.environment["HL_LAKE_URL"]).exists()

    done = hl("ingest", "--object-key", f"{world.bucket}/{_key(1)}", "--object-key", _key(2))

    assert (done.exit_code, _days(done)) == (3, [str(FIRST)])
    assert _stored(world) == _expected(world.bucket, FIRST)

    nothing = hl("ingest", "--since", "2026-11-01")
    assert (nothing.exit_code, nothing.stdout) == (0, "0 objects since 2026-11-01 00:00:00 UTC: 0 days\nnothing to do\n")
    # Hour 1 written anew without its first blocks.
    path = _object(world.bucket, 1)
    path.write_bytes(_second_half(path))
    os.utime(path, _times(datetime(2026, 11, 2, tzinfo=UTC)))
    outside = hl("ingest", "--since", "2026-11-02", "--from", str(SECOND), "--to", str(SECOND))
    assert "0 objects since 2026-11-02 00:00:00 UTC: 0 days" in outside.stdout

    done = hl("ingest", "--since", "2026-11-02T01:00:00+01:00")

    assert "1 objects since 2026-11-02 00:00:00 UTC: 1 day, 2026-03-15" in done.stdout
    assert (done.exit_code, _days(done)) == (3, [str(FIRST)])
    assert _stored(world) == _expected(world.bucket, FIRST)


@pytest.mark.slow
def test_files_that_somebody_has_are_loaded_and_never_paid_for(
    hl: Hl, world: World, made: Sample, bucket: str, s3: S3Server, tmp_path: Path
) -> None:
    nameless = tmp_path / "download (1)"
    shutil.copy(_object(made.node_data_dir, 1), nameless)

    done = hl("ingest", "--local-file", str(_object(made.node_data_dir, 0)), "--local-file", str(nameless))

    assert (done.exit_code, _days(done)) == (3, [str(FIRST)])
    assert f"{nameless} is {_key(1)}: " in done.stdout
    there = [fill for fill in _expected(made.node_data_dir, FIRST) if fill["object"] in (_key(0), _key(1))]
    assert _stored(world) == there
    assert _gets(world) == []
    asked = len(s3.requests)
    assert hl("ingest", *_SPAN).exit_code == 3
    assert _gets(world) == [_key(2), _key(3)]
    sent = [path for method, path, _ in s3.requests[asked:] if method == "GET" and path.endswith(".lz4")]
    assert sorted(sent) == [f"/{bucket}/{_key(2)}", f"/{bucket}/{_key(3)}"]
    assert _stored(world) == _expected(made.node_data_dir, FIRST)


@pytest.mark.slow
def test_a_file_is_told_by_what_is_in_it_in_every_format(hl: Hl, world: World, tmp_path: Path) -> None:
    old = write_sample(tmp_path / "old", first_day=date(2025, 6, 10), hours=2, fills_per_hour=60)
    new = write_sample(tmp_path / "new", first_day=date(2025, 11, 3), fills_per_hour=20)
    given: dict[str, tuple[bytes, str]] = {}
    for dataset in ("node_fills", "node_trades"):
        key = f"{dataset}/hourly/20250610/1.lz4"
        plain = lz4.frame.decompress((old.node_data_dir / key).read_bytes())
        given[f"{dataset}.plain"] = (plain, key)
    key = "node_fills_by_block/hourly/20251103/7.lz4"
    given["gzipped"] = (gzip.compress(lz4.frame.decompress((new.node_data_dir / key).read_bytes())), key)
    statuses = [
        path for path in new.twap_data_dir.rglob("*") if path.is_file() and "2025" in str(path.relative_to(new.twap_data_dir))
    ]
    [parquet, *_] = [
        path for path in statuses if path.suffix == ".parquet" and "20251103" in str(path).replace("-", "").replace("/", "")
    ]
    given["statuses"] = (parquet.read_bytes(), "date=2025-11-03/statuses")
    words: list[str] = []
    for name, (content, _) in given.items():
        (tmp_path / name).write_bytes(content)
        words += ["--local-file", str(tmp_path / name)]

    done = hl("ingest", *words)

    assert done.exit_code == 3, done.stderr
    for name, (_, key) in given.items():
        assert f"{tmp_path / name} is {key}: " in done.stdout
    assert _days(done) == ["2025-06-10", "2025-11-03"]
    with connect(world.database_url) as connection:
        counts = dict(connection.execute("SELECT source, rows FROM hl.s3_ingest_log").fetchall())
        events = connection.execute("SELECT count(*) FROM hl.twap_statuses").fetchone()
    lines = {name: content.count(b"\n") for name, (content, _) in given.items()}
    assert counts["node_fills"] == lines["node_fills.plain"]
    assert counts["node_trades"] == 2 * lines["node_trades.plain"]
    truth = pl.read_parquet(new.truth_dir / "statuses.parquet")
    own = str(parquet.relative_to(new.twap_data_dir))
    of_object = truth.filter(pl.col("keys").list.contains(own) & (pl.from_epoch("time_ns", "ns").dt.date() == date(2025, 11, 3)))
    assert events == (of_object.height,)
    assert of_object.height > 0


def test_a_file_that_cannot_be_an_object_is_refused_by_name_and_changes_nothing(hl: Hl, world: World, tmp_path: Path) -> None:
    one, two = (lz4.frame.decompress(_object(world.bucket, hour).read_bytes()) for hour in (1, 2))
    files = {"both": one + two, "empty": b"", "text": b"hello\n", "broken": _object(world.bucket, 1).read_bytes()[:-100]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    good = ["--local-file", str(_object(world.bucket, 0))]
    for words, message in (
        (["both"], "it has fills from 2026-03-15 01:00"),
        (["both"], "these are several hours. Expected: one object of a bucket, as downloaded"),
        (["empty"], "unknown contents"),
        (["text"], "unknown contents"),
        (["broken"], "truncated: the lz4 stream ends within a frame"),
        (["nowhere"], "No such file"),
        (["."], "Is a directory"),
    ):
        done = hl("ingest", *good, "--local-file", str(tmp_path / words[0]))
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    for key, message in (
        (_key(9), f"its key {_key(9)} is of 2026-03-15 09 h"),
        ("2026/03/15/x.lz4", "it contains node_fills_by_block, but its key 2026/03/15/x.lz4 is of twap_statuses"),
    ):
        done = hl("ingest", *good, "--as", key)
        assert (done.exit_code, message in done.stderr) == (2, True), done.stderr
    assert not list(Path(world.environment["HL_LAKE_URL"]).rglob("*.parquet"))


@pytest.mark.slow
def test_other_content_of_an_object_is_refused_unless_it_is_forced(hl: Hl, world: World, made: Sample, tmp_path: Path) -> None:
    one, two = (["--local-file", str(_object(made.node_data_dir, hour))] for hour in (1, 2))
    other = tmp_path / _key(1)
    other.parent.mkdir(parents=True)
    other.write_bytes(_second_half(_object(made.node_data_dir, 1)))
    assert hl("ingest", *one, *two).exit_code == 3

    refused = hl("ingest", "--local-file", str(other), *two)

    assert (refused.exit_code, f"the lake already has {_key(1)}, with different bytes (" in refused.stderr) == (2, True)
    there = [fill for fill in _expected(made.node_data_dir, FIRST) if fill["object"] in (_key(1), _key(2))]
    assert _stored(world) == there

    done = hl("ingest", "--local-file", str(other), *two, "--force")

    assert (done.exit_code, f"is {_key(2)}: already in the lake" in done.stdout) == (3, True)
    rest = [fill for fill in there if fill["object"] == _key(2)]
    assert _stored(world) == in_order(_expected(tmp_path, FIRST) + rest)
    twice = hl("ingest", "--local-file", str(other), *one, "--force")
    assert (twice.exit_code, f"are both the object {_key(1)}" in twice.stderr) == (2, True)


@pytest.mark.slow
def test_dirty_days_are_loaded_and_a_note_goes_only_with_a_load_that_began_after_it(
    hl: Hl, world: World, connection: psycopg.Connection
) -> None:
    assert "hl.dirty_days: 0 days\nnothing to do" in hl("ingest", "--dirty").stdout
    assert hl("ingest", *_SPAN).exit_code == 3
    connection.execute("DELETE FROM hl.fills WHERE side = 'A'")
    note_dirty(connection, [FIRST], "wallets of shard 2")
    mark = read_mark(connection, FIRST)
    assert mark is not None
    note_dirty(connection, [SECOND, FIRST, FIRST], "wallets of shard 3")
    clear_dirty(connection, FIRST, mark)
    # Also if the clock went back between the two.
    connection.execute("UPDATE hl.dirty_days SET noted_at = noted_at - interval '1 hour'")
    clear_dirty(connection, FIRST, mark)
    assert read_dirty(connection) == {FIRST: "wallets of shard 3", SECOND: "wallets of shard 3"}
    assert f"load again {FIRST}: wallets of shard 3" in hl("status").stdout

    done = hl("ingest", "--dirty", "--to", str(FIRST))

    assert (done.exit_code, _days(done)) == (3, [str(FIRST)])
    assert list(read_dirty(connection)) == [SECOND]
    expected = _expected(world.bucket, FIRST)
    assert _stored(world) == expected
    # Nobody has asked for the other one, and the lake has nothing of it.
    assert _days(hl("ingest", "--dirty")) == []

    # Again, from the lake alone.
    connection.execute("DELETE FROM hl.fills WHERE side = 'B'")
    note_dirty(connection, [FIRST], "somebody took rows away")
    done = hl("ingest", "--dirty", "--force", HL_NODE_DATA_URL="s3://nobody-may-ask-here")
    assert "skipped, because the lake has no data for them: 1 day, 2026-03-16" in done.stdout
    assert (done.exit_code, _days(done)) == (3, [str(FIRST)])
    assert _stored(world) == expected
    assert list(read_dirty(connection)) == [SECOND]


@pytest.mark.slow
def test_a_day_with_api_fills_and_hours_that_come_later_has_each_fill_once(
    hl: Hl, world: World, made: Sample, connection: psycopg.Connection
) -> None:
    """Of one wallet the API has what the bucket gets in hour 2, in hour 3, and what it never gets."""
    for hour in (2, 3):
        _object(world.bucket, hour).unlink()
    assert hl("ingest", *_SPAN).exit_code == 3
    bucket = read_bucket(made.node_data_dir)
    wallet, _ = Counter(user for _, user, _ in bucket).most_common(1)[0]
    own = [fill for _, user, fill in bucket if user == wallet]
    never = [fill | {"time": fill["time"] + 3_600_000 * 12, "tid": fill["tid"] + 1} for fill in own[:20]]
    user = User(wallet.lower(), json.loads(json.dumps(sorted([*own, *never], key=lambda fill: fill["time"]), default=str)))
    window = {"HL_BACKFILL_FROM": f"{FIRST}T00:00:00Z", "HL_BACKFILL_TO": f"{SECOND}T00:00:00Z"}
    with serve_info(InfoServer({user.wallet: user})) as info:
        asked = hl("backfill", "--wallet", wallet, HL_INFO_URL=info.url, HL_INFO_WEIGHT_PER_MINUTE="1000000", **window)
    assert asked.exit_code == 0, asked.output
    assert list(read_dirty(connection)) == [FIRST]

    def publish(hour: int) -> None:
        shutil.copy2(_object(made.node_data_dir, hour), _object(world.bucket, hour))

    def expected(*hours: int) -> list[tuple[object, ...]]:
        of_bucket = [(block["object"], user, fill) for block, user, fill in read_bucket(world.bucket)]
        there = {_fill_key(user, fill) for _, user, fill in of_bucket}
        api = f"api_fills/date={FIRST}/shard={shard_of(wallet)}.parquet"
        of_api = [(api, wallet, fill) for fill in [*own, *never] if _fill_key(wallet, fill) not in there]
        rows = [
            (*_fill_key(user, fill), Decimal(fill["px"]), Decimal(fill["fee"]), key) for key, user, fill in of_bucket + of_api
        ]
        assert {key for *_, key in rows} == {api, *map(_key, hours)}
        return sorted(row for row in rows if event_day({"time": row[0]}) == FIRST)

    def stored() -> list[tuple[object, ...]]:
        rows = connection.execute(_ROWS_AND_OBJECTS).fetchall()
        return sorted((row[0] // timedelta(milliseconds=1), *row[1:]) for row in rows)

    publish(2)
    assert (hl("ingest", "--dirty").exit_code, read_dirty(connection)) == (3, {})
    assert stored() == expected(0, 1, 2)
    # No note any more; the rows of the API are there all the same.
    publish(3)
    assert hl("ingest", *_SPAN).exit_code == 3
    assert stored() == expected(0, 1, 2, 3)
    market = sum(not str(row[-1]).startswith("api_fills/") for row in stored())
    assert connection.execute("SELECT sum(fills) + sum(non_market_rows) FROM hl.daily_stats").fetchone() == (market,)
    of_wallet = [row for row in stored() if row[2] == wallet]
    counted = "SELECT fills + non_market_rows, sources FROM hl.user_stats WHERE wallet = %s"
    assert connection.execute(counted, [wallet]).fetchone() == (len(of_wallet), ["api_fills", "node_fills_by_block"])


def _fill_key(user: str, fill: dict[str, Any]) -> tuple[int, str, str, str, int]:
    return fill["time"], fill["coin"], user.lower(), fill["side"], fill["tid"]


@pytest.mark.slow
def test_what_is_downloaded_again_is_told_asked_for_and_paid_twice(hl: Hl, world: World, made: Sample, bucket: str) -> None:
    del bucket
    assert hl("ingest", *_SPAN).exit_code == 3
    expected = _expected(made.node_data_dir, FIRST)
    damaged = Path(world.environment["HL_LAKE_URL"]) / f"raw_fills/object_date={FIRST}/hour=01.node_fills_by_block.parquet"
    _damage(damaged)
    size = sum(_object(made.node_data_dir, hour).stat().st_size for hour in range(4))
    # A dollar per request and one per kB, so that the digits of the printed cost show both.
    prices = {"HL_S3_PRICE_PER_1000_GETS": "1000", "HL_NODE_DATA_PRICE_PER_GB": "1000000"}

    no = hl("ingest", *_SPAN, "--redownload", answer="n\n", **prices)

    assert no.exit_code == 1
    message = f"1 day, {FIRST}: 4 objects to download, {size / 2**30:,.3f} GiB, ${4 + size / 1000:,.4f}"
    assert f"{message}; 4 of them replace objects in the lake" in no.stdout
    assert "to be downloaded again" not in hl("status").stdout
    poor = hl("ingest", *_SPAN, "--redownload", HL_S3_BUDGET_USD="3", HL_S3_PRICE_PER_1000_GETS="1000")
    assert "more than the rest of HL_S3_BUDGET_USD" in poor.stderr
    assert _gets(world) == [_key(hour) for hour in range(4)]

    yes = hl("ingest", *_SPAN, "--redownload", "--yes")

    assert yes.exit_code == 3
    assert _gets(world) == sorted([_key(hour) for hour in range(4)] * 2)
    assert _stored(world) == expected
    assert "to be downloaded again" not in hl("status").stdout


@pytest.mark.slow
def test_a_reset_is_told_taken_back_and_loses_nothing_where_the_object_cannot_be_had(
    hl: Hl, world: World, made: Sample, bucket: str, s3: S3Server
) -> None:
    assert hl("ingest", *_SPAN).exit_code == 3
    expected = _expected(made.node_data_dir, FIRST)
    first_time = _gets(world)
    reset = ["reset", "checkpoint", "--object-key", _key(1), "--object-key", _key(2)]
    no = hl(*reset, answer="n\n")
    assert (no.exit_code, "2 objects, 0.000 GiB: downloading them again will cost $0.0000" in no.stdout) == (1, True)
    assert hl(*reset, "--yes").exit_code == 0
    assert "nothing to do" in hl(*reset, "--yes").stdout
    assert "2 objects are marked to be downloaded again" in hl("status").stdout
    cost = [line.split() for line in hl("cost", *_SPAN).stdout.splitlines()]
    [by_block] = [words for words in cost if words[:1] == ["node_fills_by_block"]]
    assert (by_block[3], by_block[5]) == ("2", "2"), "in the lake, to download"
    assert "mark removed from 1 objects" in hl("reset", "checkpoint", "--object-key", _key(1), "--undo").stdout

    # It is gone: its rows stay, also when the day is loaded again.
    s3.client().delete_object(Bucket=bucket, Key=_key(2))
    assert hl("ingest", *_SPAN).exit_code == 3
    assert _stored(world) == expected
    assert _gets(world) == first_time
    s3.client().put_object(Bucket=bucket, Key=_key(2), Body=_object(made.node_data_dir, 2).read_bytes())
    hl("ingest", *_SPAN)
    assert _gets(world) == sorted([*first_time, _key(2)])
    assert "to be downloaded again" not in hl("status").stdout
    assert _stored(world) == expected


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give either --from and --to, or --object-key, not both"),
        (["--from", "2026-03-15"], 2, "--to is missing: give both days"),
        ([*_SPAN, "--object-key", _key(1)], 2, "or --object-key, not both"),
        (["--object-key", "x"], 2, "x is not a known form of key"),
        (["--object-key", _key(9)], 1, f"has no {_key(9)}: nothing to mark"),
    ],
)
def test_a_reset_of_what_is_not_there_is_named(words: list[str], code: int, message: str, hl: Hl, world: World) -> None:
    Path(world.environment["HL_LAKE_URL"]).mkdir()
    done = hl("reset", "checkpoint", *words)
    assert (done.exit_code, message in done.stderr) == (code, True), done.stderr


def _second_half(path: Path) -> bytes:
    """An object of the latter half of an object's lines."""
    lines = lz4.frame.decompress(path.read_bytes()).splitlines(keepends=True)
    return lz4.frame.compress(b"".join(lines[len(lines) // 2 :]))


def _damage(path: Path) -> None:
    """Remove half of the rows, but leave the records about them."""
    table = pl.read_parquet(path, hive_partitioning=False)
    told = pq.read_metadata(path).metadata
    pq.write_table(table[::2].to_arrow().replace_schema_metadata(told), path)
