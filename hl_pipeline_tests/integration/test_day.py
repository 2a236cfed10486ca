"""A day through the assets, from a generated bucket: compared with the generator's truth, and damaged in every way."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import lz4.frame
import polars as pl
import psycopg
import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterInstance, ExecuteInProcessResult, materialize

from hl_pipeline.assets.fills import fills
from hl_pipeline.assets.raw_fills import raw_fills
from hl_pipeline.definitions import build_resources
from hl_pipeline.domain.completeness import DayVerdict
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.domain.fills_checks import check_lake_equals_database
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.load_fills import load_objects, tally_lake
from hl_pipeline.stages.raw_tables import RAW_FILLS
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.hour_totals import read_totals
from hl_pipeline.warehouse.locks import lock_fills_day
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import (
    event_day,
    expected_fill,
    in_order,
    object_path,
    read_bucket,
    stored_fills,
    without,
    write_object,
)
from hl_pipeline_tests.servers.s3 import REGION, S3Server

DAY = date(2026, 3, 15)
START = datetime(2026, 3, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
Materialize = Callable[..., ExecuteInProcessResult]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated bucket of one whole day; its truth is beside it."""
    return write_sample(tmp_path_factory.mktemp("day"), first_day=DAY, days=1, fills_per_hour=400).node_data_dir


@pytest.fixture
def bucket(made: Path, world: World) -> Path:
    """A copy of that bucket, for tests that damage it."""
    shutil.copytree(made, world.bucket, dirs_exist_ok=True)
    return world.bucket


@pytest.fixture
def materialized(world: World, instance: DagsterInstance) -> Materialize:
    """Materialize raw_fills and fills of a day."""
    del world

    def run(day: date = DAY) -> ExecuteInProcessResult:
        return materialize([raw_fills, fills], partition_key=str(day), instance=instance, resources=build_resources(Settings()))

    return run


def _checks(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    """Of fills by name: the assets of TWAPs have some of the same name."""
    checks = result.get_asset_check_evaluations()
    return {check.check_name: check for check in checks if "twap" not in check.asset_key.to_user_string()}


def _failed(result: ExecuteInProcessResult) -> set[str]:
    return {name for name, check in _checks(result).items() if not check.passed}


def _metadata(result: ExecuteInProcessResult, asset: str) -> dict[str, object]:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def _lines(path: Path) -> list[bytes]:
    return lz4.frame.decompress(path.read_bytes()).splitlines(keepends=True)


def _put(path: Path, lines: list[bytes]) -> None:
    path.write_bytes(lz4.frame.compress(b"".join(lines)))


def _expected(bucket: Path, day: date = DAY) -> list[dict[str, object]]:
    fills = [expected_fill(block, user, fill) for block, user, fill in read_bucket(bucket)]
    return in_order([fill for fill in fills if event_day(fill) == day])


def _stored(world: World) -> list[dict[str, object]]:
    return in_order(without(stored_fills(world.database_url), "date"))


def test_a_whole_day_has_every_field_of_every_fill_and_passes_every_check(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    result = materialized()

    assert _failed(result) == set()
    assert _checks(result)["day_is_whole"].description == "Whole: 25 objects, no block missing."
    stored = _stored(world)
    assert len(stored) > 9_000
    assert stored == _expected(bucket)


def test_the_sums_of_each_coin_and_wallet_are_the_generators_own(
    made: Path, bucket: Path, world: World, materialized: Materialize
) -> None:
    materialized()
    truth = pl.read_parquet(made.parent / "truth" / "fills.parquet").filter(pl.col("date") == DAY)
    with psycopg.connect(world.database_url, options="-c timezone=UTC") as connection:
        rows = connection.execute(
            "SELECT coin, wallet, count(*), sum(sz), sum(sz) FILTER (WHERE crossed), count(twap_id), sum(start_position), "
            "sum(closed_pnl), sum(fee), sum(px * sz) FROM hl.fills GROUP BY 1, 2"
        ).fetchall()
    columns = ["rows", "sz_sum", "taker_sz_sum", "twap_rows", "start_position_sum", "closed_pnl_sum", "fee_sum", "notional_sum"]
    expected = {
        (row["coin"], row["wallet"]): [Decimal(row[name] or 0) for name in columns] for row in truth.iter_rows(named=True)
    }
    stored = {(row[0], row[1]): [Decimal(value or 0) for value in row[2:]] for row in rows}
    assert stored == expected
    assert bucket.is_dir()


def test_metadata_tells_what_came_and_a_second_run_fetches_nothing(
    made: Path, bucket: Path, world: World, materialized: Materialize
) -> None:
    first = materialized()
    size = sum(path.stat().st_size for path in bucket.rglob("*.lz4"))
    truth = json.loads((made.parent / "truth" / "days.json").read_text())
    raw, fills = _metadata(first, "raw_fills"), _metadata(first, "fills")
    assert (raw["objects"], raw["objects_fetched"], raw["bytes"], raw["bytes_fetched"]) == (25, 25, size, size)
    assert (raw["bad_lines"], raw["missing_blocks"], raw["missing_hours"], raw["source"]) == (0, 0, 0, "node_fills_by_block")
    objects = truth["objects"].values() if isinstance(truth["objects"], dict) else truth["objects"]
    assert (raw["first_block"], raw["last_block"]) == (
        min(o["first_block"] for o in objects),
        max(o["last_block"] for o in objects),
    )
    assert fills["dagster/partition_row_count"] == truth["days"][str(DAY)]["rows"]
    assert fills["duplicates_dropped"] == 0
    before = _stored(world)

    second = _metadata(materialized(), "raw_fills")

    assert (second["objects"], second["objects_fetched"], second["bytes_fetched"]) == (25, 0, 0)
    assert _stored(world) == before


@pytest.mark.slow
def test_single_legs_are_counted_as_the_generator_made_them(made: Path, bucket: Path, materialized: Materialize) -> None:
    checks = _checks(materialized())
    fills = [
        (fill["time"], fill["coin"], fill["tid"])
        for _, _, fill in read_bucket(bucket)
        if fill["tid"] and event_day(fill) == DAY and fill["dir"].split()[0] not in ("Settlement", "Split", "Merge", "Negate")
    ]
    single = [key for key in set(fills) if fills.count(key) == 1]
    metadata = {name: value.value for name, value in checks["legs_pair"].metadata.items()}
    assert metadata == {"trades": len(set(fills)), "trades_with_one_leg": len(single), "not_a_pair": 0}
    assert single
    assert made.is_dir()


def test_a_truncated_object_fails_alone_and_by_name_and_is_mended_by_the_next_run(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    path = object_path(bucket, START + 5 * HOUR)
    content = path.read_bytes()
    path.write_bytes(content[:-100])

    result = materialized()

    assert result.success
    assert _failed(result) == {"hours_present", "blocks_without_holes", "day_is_whole"} - {"blocks_without_holes"}
    check = _checks(result)["day_is_whole"]
    assert check.severity == AssetCheckSeverity.ERROR
    assert "1 of 25 objects failed: 2026-03-15 05 h (truncated: the lz4 stream ends within a frame" in (check.description or "")
    with psycopg.connect(world.database_url) as connection:
        errors = connection.execute("SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL").fetchall()
    assert [key for key, _ in errors] == ["node_fills_by_block/hourly/20260315/5.lz4"]
    path.rename(path.with_suffix(".away"))
    assert _stored(world) == _expected(bucket)
    path.with_suffix(".away").rename(path)

    path.write_bytes(content)
    again = materialized()

    assert _failed(again) == set()
    assert _metadata(again, "raw_fills")["objects_fetched"] == 1
    assert _stored(world) == _expected(bucket)
    with psycopg.connect(world.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM hl.s3_ingest_log WHERE error IS NOT NULL").fetchone() == (0,)


@pytest.mark.slow
def test_several_frames_in_one_object_and_a_gz_copy_are_read_like_any_other(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    expected = _expected(bucket)
    several = object_path(bucket, START + 3 * HOUR)
    lines = _lines(several)
    several.write_bytes(lz4.frame.compress(b"".join(lines[:100])) + lz4.frame.compress(b"".join(lines[100:])))
    copied = object_path(bucket, START + 4 * HOUR)
    write_object(bucket, START + 4 * HOUR, lz4.frame.decompress(copied.read_bytes()), codec="gz")
    copied.unlink()

    assert _failed(materialized()) == set()

    for fill in expected:
        fill["object"] = str(fill["object"]).replace("/20260315/4.lz4", "/20260315/4.gz")
    assert _stored(world) == expected


def test_bad_lines_are_quarantined_with_their_number_and_text_and_counted(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    path = object_path(bucket, START + 6 * HOUR)
    lines = _lines(path)
    with_fills = [n for n, line in enumerate(lines) if b'"px":"' in line]
    first, second, third = with_fills[3], with_fills[7], with_fills[11]
    lost = json.loads(lines[third])
    lines[first] = lines[first].replace(b'"px":"', b'"px":"about ', 1)
    lines[second] = lines[second].replace(b'"sz":"', b'"sz":"0.12345678901","was":"', 1)
    lines[third] = lines[third][: len(lines[third]) // 2] + b"\n"
    _put(path, lines)

    result = materialized()

    assert _failed(result) == {"lines_taken", "blocks_without_holes", "day_is_whole"}
    assert _metadata(result, "raw_fills")["bad_lines"] == 3
    assert _metadata(result, "raw_fills")["missing_blocks"] == 1
    assert f"1 blocks missing: {lost['block_number']}-{lost['block_number']} in" in (
        _checks(result)["day_is_whole"].description or ""
    )
    quarantine = Path(world.environment["HL_LAKE_URL"]) / "raw_fills/object_date=2026-03-15/hour=06.node_fills_by_block.bad.jsonl"
    records = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [(record["line"], record["event"]) for record in records] == [(first + 1, 1), (second + 1, 1), (third + 1, None)]
    assert 'px: "about ' in records[0]["reason"]
    assert "has more than 10 decimals" in records[1]["reason"]
    assert records[2]["text"].encode() == lines[third][:-1]
    _put(path, [line for n, line in enumerate(lines) if n not in (first, second, third)])
    others = {(fill["time"], fill["tid"], fill["user"], fill["side"], fill["coin"]) for fill in _expected(bucket)}
    stored = {(fill["time"], fill["tid"], fill["user"], fill["side"], fill["coin"]) for fill in _stored(world)}
    assert others < stored
    assert len(stored - others) == sum(len(json.loads(lines[n].replace(b"about ", b""))["events"]) - 1 for n in (first, second))


@pytest.mark.slow
def test_a_few_bad_lines_below_the_threshold_pass_and_are_counted(
    bucket: Path, world: World, materialized: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HL_BAD_LINES_MAX_SHARE", "0.5")
    path = object_path(bucket, START + 6 * HOUR)
    lines = _lines(path)
    number = next(n for n, line in enumerate(lines) if b'"px":"' in line)
    lines[number] = lines[number].replace(b'"px":"', b'"px":"x', 1)
    _put(path, lines)

    result = materialized()

    assert _failed(result) == set()
    assert {name: value.value for name, value in _checks(result)["lines_taken"].metadata.items()}["bad_lines"] == 1
    assert world.home


@pytest.mark.parametrize("content", [b"", lz4.frame.compress(b"")], ids=["no-bytes", "no-lines"])
def test_an_empty_object_is_there_but_is_no_hour(content: bytes, bucket: Path, materialized: Materialize) -> None:
    object_path(bucket, START + 7 * HOUR).write_bytes(content)
    result = materialized()
    assert result.success
    assert _failed(result) == {"hours_present", "day_is_whole"}
    assert "the object exists but has no blocks" in (_checks(result)["day_is_whole"].description or "")


def test_a_missing_hour_is_an_error_that_names_it_and_the_rest_is_loaded(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    object_path(bucket, START + 8 * HOUR).unlink()
    result = materialized()
    assert _failed(result) == {"hours_present", "day_is_whole"}
    assert _checks(result)["hours_present"].severity == AssetCheckSeverity.ERROR
    assert "1 of 25 objects missing: 2026-03-15 08 h (no such object in node_fills_by_block)" in (
        _checks(result)["day_is_whole"].description or ""
    )
    assert _stored(world) == _expected(bucket)


@pytest.mark.slow
def test_an_hour_that_is_not_due_yet_is_a_warning(
    bucket: Path, materialized: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    object_path(bucket, START + 24 * HOUR).unlink()
    monkeypatch.setenv("HL_PUBLISH_LAG_HOURS", str(24 * 365 * 20))
    result = materialized()
    assert _failed(result) == {"hours_present", "day_is_whole"}
    assert {check.severity for check in _checks(result).values() if not check.passed} == {AssetCheckSeverity.WARN}
    assert "not due" in (_checks(result)["day_is_whole"].description or "")


def test_the_last_fills_of_a_day_come_from_the_next_days_first_object(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    materialized()
    by_object = {
        str(fill["object"]).rpartition("/hourly/")[2] for fill in _stored(world) if str(fill["object"]).endswith("/0.lz4")
    }
    assert by_object == {"20260315/0.lz4", "20260316/0.lz4"}
    assert _stored(world) == _expected(bucket)


def test_a_block_that_stands_in_two_objects_is_counted_once(bucket: Path, world: World, materialized: Materialize) -> None:
    expected = _expected(bucket)
    before, after = object_path(bucket, START + 9 * HOUR), object_path(bucket, START + 10 * HOUR)
    doubled = [line for line in _lines(before) if b'"events":[]' not in line][-5:]
    _put(after, doubled + _lines(after))

    result = materialized()

    fills = sum(len(json.loads(line)["events"]) for line in doubled)
    assert _metadata(result, "fills")["duplicates_dropped"] == fills > 0
    assert _checks(result)["key_unique"].passed
    # The second object's own fills stand after what was put before them.
    assert without(_stored(world), "ordinal") == without(expected, "ordinal")


@pytest.mark.slow
def test_a_rewritten_object_replaces_its_rows_and_no_other(bucket: Path, world: World, materialized: Materialize) -> None:
    path = object_path(bucket, START + 11 * HOUR)
    whole = path.read_bytes()
    _put(path, _lines(path)[:50])
    materialized()
    assert _stored(world) == _expected(bucket)
    path.write_bytes(whole)
    result = materialized()
    assert _metadata(result, "raw_fills")["objects_fetched"] == 1
    assert _failed(result) == set()
    assert _stored(world) == _expected(bucket)


@pytest.mark.slow
def test_a_repeat_of_a_fill_that_says_other_things_of_it_is_told(bucket: Path, materialized: Materialize) -> None:
    before, after = object_path(bucket, START + 9 * HOUR), object_path(bucket, START + 10 * HOUR)
    line = [line for line in _lines(before) if b'"px":"' in line][-1]
    _put(after, [line.replace(b'"px":"', b'"px":"9', 1), *_lines(after)])
    check = _checks(materialized())["key_unique"]
    assert (check.passed, check.metadata["conflicts"].value) == (False, 1)
    assert "1 dropped duplicates differ from the kept fill" in (check.description or "")


@pytest.mark.slow
def test_an_error_of_an_hour_is_seen_and_mended_whatever_its_name(bucket: Path, world: World, materialized: Materialize) -> None:
    path = object_path(bucket, START + 9 * HOUR)
    content = path.read_bytes()
    padded = path.with_name("09.lz4")
    path.rename(padded)
    padded.write_bytes(content[:-50])
    assert "1 of 25 objects failed: 2026-03-15 09 h (truncated" in (_checks(materialized())["day_is_whole"].description or "")
    padded.unlink()
    write_object(bucket, START + 9 * HOUR, lz4.frame.decompress(content), codec="gz")
    assert _failed(materialized()) == set()
    assert len(_stored(world)) > 9_000


@pytest.mark.slow
def test_a_lake_that_lost_its_objects_does_not_empty_the_database(
    bucket: Path, world: World, materialized: Materialize, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    materialized()
    before = _stored(world)
    monkeypatch.setenv("HL_LAKE_URL", str(tmp_path / "another"))
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("HL_NODE_DATA_URL", str(tmp_path / "nothing"))
    with pytest.raises(
        LakeLacksError, match=r"25 objects with rows in hl.fills are missing from the lake .* Check that HL_LAKE_URL is right"
    ):
        materialized()
    assert _stored(world) == before
    assert bucket.is_dir()


@pytest.mark.slow
def test_a_file_of_the_lake_that_is_none_is_fetched_again(bucket: Path, world: World, materialized: Materialize) -> None:
    materialized()
    path = Path(world.environment["HL_LAKE_URL"]) / "raw_fills/object_date=2026-03-15/hour=10.node_fills_by_block.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    result = materialized()
    assert _failed(result) == set()
    assert _metadata(result, "raw_fills")["objects_fetched"] == 1
    assert _stored(world) == _expected(bucket)


@pytest.mark.slow
def test_sizes_too_large_to_be_added_up_pass_the_checks(bucket: Path, materialized: Materialize) -> None:
    path = object_path(bucket, START + 9 * HOUR)
    text = b"".join(_lines(path)).replace(b'"sz":"', b'"sz":"9999999999999999999999', 5)
    path.write_bytes(lz4.frame.compress(text))
    assert _failed(materialized()) == set()


@pytest.mark.slow
def test_objects_that_come_while_a_day_waits_are_loaded_with_it(
    bucket: Path, world: World, materialized: Materialize, postgres_home: Path
) -> None:
    last = object_path(bucket, START + 24 * HOUR)
    content = last.read_bytes()
    last.unlink()
    materialized()
    lake = open_lake(world.environment["HL_LAKE_URL"])
    loaded: list[DayVerdict] = []

    def load() -> None:
        with connect(world.database_url, "waiting") as connection:
            loaded.append(load_objects(DAY, lake, connection, Settings())[1])

    waiting = threading.Thread(target=load)
    with connect(world.database_url, "holding") as holder, lock_fills_day(holder, DAY):
        waiting.start()
        last.write_bytes(content)
        fetch_day(RAW_FILLS, date(2026, 3, 16), lake, Settings(node_data_url=str(bucket)))
    waiting.join()

    assert [hour.state for hour in loaded[0].hours] == ["present"] * 25
    assert _stored(world) == _expected(bucket)
    assert postgres_home.is_dir()


def test_a_day_that_no_source_has_materializes_with_nothing(world: World, materialized: Materialize) -> None:
    result = materialized(date(2024, 1, 1))
    assert result.success
    assert _metadata(result, "fills")["dagster/partition_row_count"] == 0
    assert _metadata(result, "raw_fills")["source"] == "none"
    assert (_checks(result)["day_is_whole"].passed, _checks(result)["day_is_whole"].severity) == (False, AssetCheckSeverity.WARN)
    assert _stored(world) == []


def test_a_day_that_node_trades_lacks_is_a_hole_of_all_its_hours_and_has_no_rows(world: World, materialized: Materialize) -> None:
    result = materialized(date(2025, 4, 12))
    assert result.success
    assert _failed(result) == {"hours_present", "day_is_whole"}
    check = _checks(result)["day_is_whole"]
    assert check.severity == AssetCheckSeverity.ERROR
    assert check.description == ("25 of 25 objects missing: 2025-04-12 00-23 h, 2025-04-13 00 h (no such object in node_trades).")
    assert _stored(world) == []


@pytest.mark.slow
def test_rows_that_went_from_the_database_are_missed_by_the_check_against_the_lake(
    bucket: Path, world: World, materialized: Materialize
) -> None:
    materialized()
    totals, _ = tally_lake(open_lake(world.environment["HL_LAKE_URL"]), DAY)
    with connect(world.database_url) as connection:
        assert check_lake_equals_database(totals, read_totals(connection, DAY)).passed
        connection.execute(
            "DELETE FROM hl.fills WHERE (time, tid) IN "
            "(SELECT time, tid FROM hl.fills WHERE time >= '2026-03-15 13:00+0' LIMIT 1)"
        )
        check = check_lake_equals_database(totals, read_totals(connection, DAY))
    assert not check.passed
    assert check.description == "Hours that differ: [13]. Materialize fills of this day again."
    assert bucket.is_dir()


@pytest.mark.slow
def test_lake_and_bucket_may_both_be_on_s3(
    made: Path, world: World, s3: S3Server, materialized: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3.client()
    for name in ("both-source", "both-lake"):
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.ours.add("both-lake")
    for path in made.rglob("*.lz4"):
        client.put_object(Bucket="both-source", Key=f"some/prefix/{path.relative_to(made)}", Body=path.read_bytes())
    for name, value in {
        **s3.environment,
        "HL_NODE_DATA_URL": "s3://both-source/some/prefix",
        "HL_LAKE_URL": "s3://both-lake/lake",
    }.items():
        monkeypatch.setenv(name, value)

    assert _failed(materialized()) == set()

    assert _stored(world) == _expected(made)
    key = "lake/fills/date=2026-03-15/hour=13.parquet"
    frame = pl.read_parquet(io.BytesIO(client.get_object(Bucket="both-lake", Key=key)["Body"].read()))
    assert frame.height == sum(
        START + 13 * HOUR <= datetime.fromtimestamp(int(str(f["time"])) / 1000, UTC) < START + 14 * HOUR for f in _expected(made)
    )
