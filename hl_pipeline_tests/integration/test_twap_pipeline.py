"""TWAP statuses through the assets: the real records, and objects damaged in every way."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import AssetCheckEvaluation, DagsterInstance, ExecuteInProcessResult, materialize
from psycopg.rows import dict_row

from hl_pipeline.assets.raw_twap_statuses import raw_twap_statuses
from hl_pipeline.assets.twap_statuses import twap_statuses
from hl_pipeline.definitions import ASSETS, DERIVED, build_resources
from hl_pipeline.domain.errors import LakeLacksError
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import Sample, write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.rebuild import record_objects
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests import killable_runs as runs
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.killable_runs import Death, Place
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.s3 import REGION, S3Server

STATUSES = [raw_twap_statuses, twap_statuses]
DAYS_OF_REAL = {2018017: date(2026, 7, 9), 2017981: date(2026, 7, 9), 1430699: date(2025, 12, 4), 1544034: date(2026, 1, 28)}
DAY = date(2025, 11, 3)
FIRST = date(2025, 9, 2)
Row = dict[str, Any]
Run = Callable[..., ExecuteInProcessResult]


@pytest.fixture
def source(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of TWAP statuses that the settings name."""
    del world
    directory = tmp_path / "statuses"
    directory.mkdir()
    monkeypatch.setenv("HL_TWAP_DATA_URL", str(directory))
    return directory


@pytest.fixture
def run(source: Path, instance: DagsterInstance) -> Run:
    """Materialize the statuses (or other assets) of a day."""
    del source

    def materialized(day: date = DAY, assets: Any = STATUSES, *, ok: bool = True) -> ExecuteInProcessResult:
        return materialize(
            [*assets], partition_key=str(day), instance=instance, resources=build_resources(Settings()), raise_on_error=ok
        )

    return materialized


def _query(world: World, query: str, parameters: tuple[object, ...] = ()) -> list[Row]:
    with psycopg.connect(world.database_url, options="-c timezone=UTC") as connection:
        return connection.cursor(row_factory=dict_row).execute(query.encode(), parameters).fetchall()


def _checks(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def _metadata(result: ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _event(twap_id: int = 1, **more: object) -> Row:
    state = {"coin": "SOL", "user": "0x" + "ab" * 20, "side": "B", "sz": "100.0", "executedSz": "0.0", "executedNtl": "0.0"}
    state |= {"minutes": 30, "reduceOnly": False, "randomize": False, "timestamp": 1762171200000}
    return {"time": "2025-11-03T12:00:00.000000001", "twap_id": twap_id, "state": state, "status": "activated"} | more


def _lines(*events: Mapping[str, object] | str) -> bytes:
    return b"".join((event if isinstance(event, str) else json.dumps(event)).encode() + b"\n" for event in events)


def _parquet(path: Path, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _expected(event: Row, key: str) -> Row:
    """A row of hl.twap_statuses worked out from the JSON by plain means."""
    state, status = event["state"], event["status"]
    digits = event["time"].replace("T", " ")
    moment = datetime.fromisoformat(digits[:19]).replace(tzinfo=UTC)
    nanoseconds = int(digits[20:].ljust(9, "0"))
    return {
        "twap_id": event["twap_id"],
        "time": moment + timedelta(microseconds=nanoseconds // 1000),
        "time_ns": int(moment.timestamp()) * 10**9 + nanoseconds,
        "status": status if isinstance(status, str) else "error",
        "error": None if isinstance(status, str) else status["error"],
        "wallet": state["user"],
        "coin": state["coin"],
        "side": state["side"],
        "size_requested": Decimal(state["sz"]),
        "size_executed": Decimal(state["executedSz"]),
        "notional_executed": Decimal(state["executedNtl"]),
        "duration_minutes": state["minutes"],
        "reduce_only": state["reduceOnly"],
        "randomize": state["randomize"],
        "started_at": datetime.fromtimestamp(state["timestamp"] // 1000, UTC) + timedelta(milliseconds=state["timestamp"] % 1000),
        "object": key,
        "raw_payload": event,
        "date": moment.date(),
        "place": 1 if status == "activated" else 2,
    }


@pytest.mark.parametrize("form", few(["plain", "lz4"], 1))
def test_every_value_of_the_real_statuses_arrives(form: str, samples: Path, source: Path, world: World, run: Run) -> None:
    lines = (samples / "twap_statuses_node.jsonl").read_bytes().splitlines(keepends=True)
    expected: list[Row] = []
    for line in lines:
        record = json.loads(line)
        for event in record.get("events", [record]):
            day = datetime.fromisoformat(event["time"][:19])
            key = f"hourly/{day:%Y%m%d}/{day.hour}" + (".lz4" if form == "lz4" else "")
            _put(source / key, lz4.frame.compress(line) if form == "lz4" else line)
            expected.append(_expected(event, key))
    assert {row["twap_id"]: row["date"] for row in expected} == DAYS_OF_REAL
    for day in sorted(set(DAYS_OF_REAL.values())):
        run(day)

    stored = _query(world, "SELECT * FROM hl.twap_statuses ORDER BY twap_id")

    assert all(row.pop("inserted_at") for row in stored)
    assert stored == sorted(expected, key=lambda row: row["twap_id"])


def test_the_eight_real_slices_are_on_their_twaps(samples: Path, source: Path, world: World, run: Run) -> None:
    blocks = [json.loads(line) for line in (samples / "node_fills_by_block_20260315_0.jsonl").read_text().splitlines()]
    slices = [(user, fill) for block in blocks for user, fill in block["events"] if fill.get("twapId")]
    assert len(slices) == 8
    shutil.copytree(samples / "s3/hl-mainnet-node-data", world.bucket, dirs_exist_ok=True)
    # The status of one of them, as the node would have written it: it ended with what this one slice executed.
    user, fill = slices[0]
    state = {"coin": fill["coin"], "user": user, "side": fill["side"], "sz": fill["sz"], "executedSz": fill["sz"]}
    state |= {"executedNtl": "12.358044", "minutes": 5, "reduceOnly": False, "randomize": False, "timestamp": fill["time"]}
    ended = {"time": "2026-03-15T00:04:31.5", "twap_id": fill["twapId"], "state": state, "status": "finished"}
    _put(source / "20260315/0.jsonl", _lines(ended))
    run(date(2026, 3, 15), ASSETS)

    stored = {row["twap_id"]: row for row in _query(world, "SELECT * FROM hl.twaps")}

    assert len(stored) == 8
    for user, fill in slices:
        row = stored[fill["twapId"]]
        assert (row["wallet"], row["coin"], row["side"]) == (user, fill["coin"], fill["side"])
        assert (row["fills"], row["slices"], row["size_observed"]) == (1, 1, Decimal(fill["sz"]))
        assert (row["vwap"], row["notional_observed"]) == (Decimal(fill["px"]), Decimal(fill["px"]) * Decimal(fill["sz"]))
        assert row["fees"] == {fill["feeToken"]: str(Decimal(fill["fee"]).normalize())}
        assert row["closed_pnl"] == Decimal(fill["closedPnl"])
        assert (row["maker_share"], row["is_complete"]) == (0, False)
    verdicts = {twap_id: row["verdict"] for twap_id, row in stored.items()}
    assert verdicts.pop(slices[0][1]["twapId"]) == "match"
    assert set(verdicts.values()) == {"status_missing"}


def test_a_second_run_reads_nothing_again_and_changes_nothing(source: Path, world: World, run: Run) -> None:
    _put(source / "20251103/12.jsonl", _lines(_event(1), _event(2)))
    first, second = run(), run()
    assert [_metadata(result, "raw_twap_statuses")["objects_fetched"] for result in (first, second)] == [1, 0]
    assert [row["twap_id"] for row in _query(world, "SELECT twap_id FROM hl.twap_statuses ORDER BY 1")] == [1, 2]


def test_an_object_that_was_rewritten_takes_the_place_of_the_old_one(source: Path, world: World, run: Run) -> None:
    path = source / "20251103/12.jsonl"
    _put(path, _lines(_event(1), _event(2)))
    run()
    _put(path, _lines(_event(2, status="finished")))
    run()
    assert _query(world, "SELECT twap_id, status FROM hl.twap_statuses") == [{"twap_id": 2, "status": "finished"}]


def test_the_last_events_of_a_day_come_from_the_next_days_object(source: Path, world: World, run: Run) -> None:
    _put(source / "20251103/23.jsonl", _lines(_event(1, time="2025-11-03T23:59:59.5")))
    _put(
        source / "20251104/0.jsonl",
        _lines(_event(2, time="2025-11-03T23:59:59.999999999"), _event(3, time="2025-11-04T00:00:00")),
    )
    run()
    assert _query(world, "SELECT twap_id, object FROM hl.twap_statuses ORDER BY 1") == [
        {"twap_id": 1, "object": "20251103/23.jsonl"},
        {"twap_id": 2, "object": "20251104/0.jsonl"},
    ]


def test_what_cannot_be_read_is_quarantined_with_its_line_and_the_rest_is_taken(source: Path, world: World, run: Run) -> None:
    no_id = {name: value for name, value in _event().items() if name != "twap_id"}
    _put(source / "20251103/12.jsonl", _lines(_event(1), "{no json", no_id, _event(2)))
    result = run()

    assert [row["twap_id"] for row in _query(world, "SELECT twap_id FROM hl.twap_statuses ORDER BY 1")] == [1, 2]
    assert not _checks(result)["lines_taken"].passed
    [path] = Path(world.environment["HL_LAKE_URL"]).glob("raw_twap_statuses/object_date=2025-11-03/*.bad.jsonl")
    bad = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(item["line"], item["text"]) for item in bad] == [(2, "{no json"), (3, json.dumps(no_id))]
    assert "twap_id" in bad[1]["reason"]
    assert _query(world, "SELECT rows, bad_lines, error FROM hl.s3_ingest_log") == [{"rows": 2, "bad_lines": 2, "error": None}]


def test_a_file_with_unknown_columns_fails_alone_naming_those_it_has_and_lacks(source: Path, world: World, run: Run) -> None:
    _parquet(source / "2025/11/03/odd.parquet", twap_id=[1], time=["2025-11-03T12:00:00"], state_user=["0x" + "ab" * 20])
    _put(source / "2025/11/03/good.jsonl", _lines(_event(7)))
    result = run()

    assert [row["twap_id"] for row in _query(world, "SELECT twap_id FROM hl.twap_statuses")] == [7]
    [failed] = _query(world, "SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL")
    assert failed["object_key"] == "2025/11/03/odd.parquet"
    for named in ("twap_id", "state_user", "status", "coin", "minutes"):
        assert named in failed["error"]
    assert not _checks(result)["objects_present"].passed
    assert "odd.parquet" in str(_checks(result)["day_is_there"].description)
    # Mended, it is taken, and its error is gone.
    (source / "2025/11/03/odd.parquet").unlink()
    _put(source / "2025/11/03/odd.parquet", b"")
    run()
    _put(source / "2025/11/03/odd.parquet", _real_parquet())
    run()
    assert [row["twap_id"] for row in _query(world, "SELECT twap_id FROM hl.twap_statuses ORDER BY 1")] == [7, 8]
    assert _query(world, "SELECT count(*) FROM hl.s3_ingest_log WHERE error IS NOT NULL") == [{"count": 0}]


def _real_parquet() -> bytes:
    state = _event()["state"]
    columns = {f"state_{name}": [value] for name, value in state.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"twap_id": [8], "time": ["2025-11-03T13:00:00"], "status": ["finished"], **columns}), sink)
    return sink.getvalue().to_pybytes()


def test_a_text_that_jsonb_refuses_is_kept_as_a_text(source: Path, world: World, run: Run) -> None:
    _put(source / "20251103/12.jsonl", _lines(_event(1, note="a\x00b"), _event(2, note="\ud800"), _event(3, note="\U0001f600")))
    run()
    kept = {row["twap_id"]: row["raw_payload"] for row in _query(world, "SELECT twap_id, raw_payload FROM hl.twap_statuses")}
    assert json.loads(kept[1]["_raw"])["note"] == "a\x00b"
    assert json.loads(kept[2]["_raw"])["note"] == "\ud800"
    assert kept[3]["note"] == "\U0001f600"


def test_an_hour_that_is_cut_off_fails_by_name_and_the_next_run_mends_it(source: Path, world: World, run: Run) -> None:
    whole = lz4.frame.compress(_lines(*(_event(number) for number in range(200))))
    _put(source / "20251103/12.lz4", whole[: len(whole) // 2])
    run()
    assert "truncated" in _query(world, "SELECT error FROM hl.s3_ingest_log")[0]["error"]
    _put(source / "20251103/12.lz4", whole)
    run()
    assert _query(world, "SELECT count(*) FROM hl.twap_statuses") == [{"count": 200}]
    assert _query(world, "SELECT error FROM hl.s3_ingest_log") == [{"error": None}]


def test_a_lake_that_lacks_what_was_loaded_empties_nothing(source: Path, world: World, run: Run) -> None:
    _put(source / "20251103/12.jsonl", _lines(_event(1)))
    run()
    shutil.rmtree(Path(world.environment["HL_LAKE_URL"]) / "raw_twap_statuses")
    (source / "20251103/12.jsonl").unlink()
    with pytest.raises(
        LakeLacksError,
        match=r"1 objects .* missing from the lake .*20251103/12\.jsonl.* Check that HL_LAKE_URL is right",
    ):
        run()
    assert _query(world, "SELECT count(*) FROM hl.twap_statuses") == [{"count": 1}]


def test_events_of_a_stray_object_are_on_their_own_day(source: Path, world: World, run: Run) -> None:
    _put(source / "20251103/all.jsonl", _lines(_event(1), _event(2, time="2025-11-09T08:00:00")))
    result = run()
    assert not _checks(result)["events_near_their_day"].passed
    run(date(2025, 11, 9))
    assert _query(world, "SELECT twap_id, date FROM hl.twap_statuses ORDER BY 1") == [
        {"twap_id": 1, "date": DAY},
        {"twap_id": 2, "date": date(2025, 11, 9)},
    ]


def test_the_statuses_come_through_an_s3_server_that_refuses_who_does_not_pay(
    s3: S3Server, world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3.client()
    client.create_bucket(Bucket="artemis", CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_object(Bucket="artemis", Key="raw/twap_statuses/2025/11/03/a.parquet", Body=_real_parquet())
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HL_TWAP_DATA_URL", "s3://artemis/raw/twap_statuses/")
    begun = len(s3.requests)

    materialize(STATUSES, partition_key=str(DAY), instance=instance, resources=build_resources(Settings()))
    materialize(STATUSES, partition_key=str(DAY), instance=instance, resources=build_resources(Settings()))

    assert _query(world, "SELECT twap_id, object FROM hl.twap_statuses") == [{"twap_id": 8, "object": "2025/11/03/a.parquet"}]
    asked = s3.requests[begun:]
    assert all(pays for _, _, pays in asked)
    assert [path for method, path, _ in asked if method == "GET" and path.endswith(".parquet")] == [
        "/artemis/raw/twap_statuses/2025/11/03/a.parquet"
    ]


@pytest.mark.slow
def test_a_bucket_that_denies_access_fails_only_the_statuses_and_says_how_to_skip_it(
    s3: S3Server, world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HL_TWAP_DATA_URL", "s3://artemis/raw/twap_statuses")

    resources = build_resources(Settings())
    result = materialize(ASSETS, partition_key=str(DAY), instance=instance, resources=resources, raise_on_error=False)

    [failure] = [event for event in result.get_step_failure_events() if event.step_key == "raw_twap_statuses"]
    text = str(failure.step_failure_data.error)
    assert "no AWS credentials found" in text
    assert "HL_TWAP_DATA_URL=none" in text
    assert _query(world, "SELECT date FROM hl.fills_days") == [{"date": DAY}]


@pytest.mark.slow
def test_without_a_source_the_days_say_so_and_twaps_come_from_slices_alone(
    world: World, instance: DagsterInstance, samples: Path
) -> None:
    shutil.copytree(samples / "s3/hl-mainnet-node-data", world.bucket, dirs_exist_ok=True)
    result = materialize(ASSETS, partition_key="2026-03-15", instance=instance, resources=build_resources(Settings()))
    assert result.success
    assert _query(world, "SELECT state, explanation FROM hl.twap_days") == [
        {"state": "no source", "explanation": "No source has the statuses of this day: HL_TWAP_DATA_URL is none."}
    ]
    assert _query(world, "SELECT count(*), min(verdict) AS verdict FROM hl.twaps") == [{"count": 8, "verdict": "status_missing"}]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Two days, the first of which has statuses in objects of an hour and, in part, in Parquet."""
    return write_sample(tmp_path_factory.mktemp("twaps"), first_day=FIRST, days=2, fills_per_hour=60)


@pytest.fixture
def sampled(sample: Sample, world: World, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings with which that sample is read."""
    del world
    monkeypatch.setenv("HL_NODE_DATA_URL", str(sample.node_data_dir))
    monkeypatch.setenv("HL_TWAP_DATA_URL", str(sample.twap_data_dir))
    return Settings()


def _dump(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that is known of TWAPs, but for when it was loaded."""
    queries = {
        "twaps": "SELECT t::text FROM hl.twaps t ORDER BY twap_id",
        "statuses": "SELECT (to_jsonb(s) - 'inserted_at')::text FROM hl.twap_statuses s ORDER BY 1",
        "slice_days": "SELECT * FROM hl.twap_slice_days ORDER BY 1, 2",
        "days": "SELECT date, state, explanation, objects, rows, duplicates, conflicts FROM hl.twap_days ORDER BY 1",
        "ledger": "SELECT (to_jsonb(l) - 'loaded_at' - 'fetched_at')::text FROM hl.s3_ingest_log l ORDER BY 1",
    }
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        return {name: connection.execute(query.encode()).fetchall() for name, query in queries.items()}


@pytest.mark.slow
def test_a_database_made_again_from_the_lake_has_the_same_twaps(
    sampled: Settings, world: World, new_database: NewDatabase, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (FIRST, FIRST + timedelta(days=1)):
        assert materialize(ASSETS, partition_key=str(day), instance=instance, resources=build_resources(sampled)).success
    before = _dump(world.database_url)
    assert len(before["twaps"]) > 20

    again = new_database()
    monkeypatch.setenv("HL_DATABASE_URL", again)
    monkeypatch.setenv("HL_TWAP_DATA_URL", "s3://a-bucket-that-nobody-may-ask")
    with connect(again) as connection:
        record_objects(connection, open_lake(sampled.lake))
    for day in (FIRST, FIRST + timedelta(days=1)):
        resources = build_resources(Settings())
        assert materialize(ASSETS, selection=DERIVED, partition_key=str(day), instance=instance, resources=resources).success

    assert _dump(again) == before


@pytest.mark.slow
def test_a_day_killed_anywhere_and_run_again_has_the_same_twaps(
    sampled: Settings, sample: Sample, world: World, new_database: NewDatabase, instance: DagsterInstance, tmp_path: Path
) -> None:
    assert materialize(ASSETS, partition_key=str(FIRST), instance=instance, resources=build_resources(sampled)).success
    expected = _dump(world.database_url)
    place = Place(sample.node_data_dir, tmp_path / "killed-lake", new_database(), sample.twap_data_dir)
    # While objects come, and at moments after the statuses are in: while the TWAPs are made.
    moments = [Death("table_loaded", 1, seconds) for seconds in (0, 0.01, 0.03, 0.06)]

    ends = [runs.run(place, FIRST, death) for death in (Death("object_fetched", 30), Death("object_done", 10), *moments)]

    assert ends[:4] == [-9] * 4
    assert runs.run(place, FIRST) == 0

    assert _dump(place.database_url) == expected


@pytest.mark.slow
def test_a_duration_beyond_all_reason_fails_no_day(source: Path, world: World, run: Run) -> None:
    long = _event(1)["state"] | {"minutes": 2**31 - 1}
    _put(source / "20251103/12.jsonl", _lines(_event(1, state=long), _event(2)))
    assert run(DAY, ASSETS).success
    rows = _query(world, "SELECT twap_id, duration_minutes, slices_due FROM hl.twaps ORDER BY 1")
    assert [(row["twap_id"], row["duration_minutes"]) for row in rows] == [(1, 2**31 - 1), (2, 30)]
    assert rows[1]["slices_due"] == 60


def test_an_event_in_an_object_of_the_day_before_is_there_whichever_day_comes_first(source: Path, world: World, run: Run) -> None:
    _put(source / "20251102/12.jsonl", _lines(_event(1), _event(2, time="2025-11-02T23:00:00")))
    for day in (DAY, DAY - timedelta(days=1)):
        run(day)
    assert _query(world, "SELECT twap_id, date FROM hl.twap_statuses ORDER BY 1") == [
        {"twap_id": 1, "date": DAY},
        {"twap_id": 2, "date": DAY - timedelta(days=1)},
    ]
