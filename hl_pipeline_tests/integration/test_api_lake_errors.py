"""A day in the lake that cannot be read: the API says which file and why, and never answers as if the day were empty."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.lake_engine import LakeEngine
from api.lake_files import DayInLake
from api.responses import add_error_handlers
from hl_pipeline.lake.store import Lake, list_below, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.fetch_day import fetch_fills
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import thin_day
from hl_pipeline.warehouse.locks import lock_fills_day
from hl_pipeline_tests.naive.fills import read_bucket
from hl_pipeline_tests.servers.api import Api, serving
from hl_pipeline_tests.servers.s3 import S3Server, serve_s3

# Each case loads a day, some on S3.
pytestmark = pytest.mark.slow
DAY = date(2026, 3, 15)
FILLS = "/api/v1/fills"
_START, _END = datetime(2026, 3, 15, tzinfo=UTC), datetime(2026, 3, 15, 23, 59, 59, tzinfo=UTC)
ASKED = {"start": str(DAY), "end": str(DAY), "coin": "BTC", "limit": 5000}


@dataclass(frozen=True, slots=True)
class Thinned:
    """A day that is in the lake alone. `file`: of the day at rest, relative to the lake. `count`: the fills of BTC."""

    url: str
    lake: Lake
    file: str
    count: int

    @property
    def path(self) -> Path:
        return Path(self.lake.root, self.file)

    @property
    def hours(self) -> list[str]:
        return sorted(list_below(self.lake, f"fills/date={DAY}"))


def _thin(home: Path, database: str, lake_url: str, *, compacted: bool = True) -> Thinned:
    sample = write_sample(home / "sample", first_day=DAY, hours=2, fills_per_hour=150).node_data_dir
    settings = Settings(
        home=home,
        database_url=SecretStr(database),
        lake_url=lake_url,
        node_data_url=str(sample),
        twap_data_url="none",
        publish_lag_hours=1_000_000,
    )
    lake = open_lake(lake_url)
    with connect(database, "test") as connection:
        fetch_fills(DAY, lake, connection, settings)
        load_fills(DAY, lake, connection, settings)
        if compacted:
            compact_day(DAY, lake, connection)
        with lock_fills_day(connection, DAY):
            thin_day(connection, DAY, 5)
    files = list_below(lake, f"iceberg/fills/data/date={DAY}")
    count = sum(fill["coin"] == "BTC" and block["block_time"][:10] == str(DAY) for block, _, fill in read_bucket(sample))
    return Thinned(database, lake, next(iter(files), ""), count)


@pytest.fixture
def day(database_url: str, tmp_path: Path) -> Thinned:
    return _thin(tmp_path, database_url, str(tmp_path / "lake"))


@pytest.fixture
def api(day: Thinned) -> Generator[Api]:
    with serving(day.url, HL_LAKE_URL=day.lake.root, HL_API_CACHE_MB="0") as api:
        assert len(api.get(FILLS, **ASKED)["fills"]) == day.count > 20
        yield api


def test_a_file_at_rest_that_vanished_is_named_after_it_was_tried_again(day: Thinned, api: Api) -> None:
    content = day.path.read_bytes()
    day.path.unlink()
    response = api.ask(FILLS, **ASKED)
    assert (response.status_code, f"{day.file} is not there" in response.json()["detail"]) == (503, True)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(api.ask, FILLS, **ASKED)
        time.sleep(0.05)
        day.path.write_bytes(content)
        assert asking.result().status_code == 200


@pytest.mark.parametrize("damage", ["not Parquet", "cut", "pages"])
def test_a_damaged_file_is_an_error_of_the_server_and_named_in_the_log(
    damage: str, day: Thinned, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    content = day.path.read_bytes()
    half = len(content) // 2
    damaged = {"not Parquet": b"x" * 1000, "cut": content[:half], "pages": b"PAR1" + bytes(half) + content[half + 4 :]}
    day.path.write_bytes(damaged[damage])
    for chosen in ("json", "csv"):
        with caplog.at_level(logging.ERROR):
            response = api.ask(FILLS, format=chosen, **ASKED)
        assert response.status_code == 500
        assert response.json()["detail"] == f"{day.file} in the lake is damaged; the log of the API has the reason"
    assert f"a file of the lake is damaged: {day.file} is damaged: " in caplog.text
    day.path.write_bytes(content)
    assert len(api.get(FILLS, **ASKED)["fills"]) == day.count


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELEC 1", "Parser Error"),
        ("SELECT nothing, $start, $end, $given, $limit FROM fills", "Binder Error"),
        ("SELECT wallet FROM fills", "Parameter argument/count mismatch"),
    ],
)
def test_a_query_that_duckdb_refuses_is_not_called_damage(
    query: str, said: str, day: Thinned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.lake_engine._QUERY", f"WITH {{source}}) {query}")
    engine = LakeEngine(day.lake.root, 100, 1)
    engine.open()
    of_day = DayInLake(DAY, day.count, (day.file,), (), frozenset())
    values = {"start": _START, "end": _END, "given": 0, "wallet": None, "coin": None, "twap_id": None}
    with pytest.raises(duckdb.ProgrammingError, match=said):
        list(engine.read(engine.cursor(), [of_day], values, None, 100))
    engine.close()


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(day: Thinned, api: Api) -> None:
    day.path.unlink()
    day.path.mkdir()
    response = api.ask(FILLS, **ASKED)
    assert (response.status_code, response.json()["detail"]) == (
        503,
        f"the lake cannot be read: {day.path} cannot be read: Is a directory",
    )


def test_a_damaged_hour_of_a_day_that_is_not_compacted_is_named(database_url: str, tmp_path: Path) -> None:
    day = _thin(tmp_path, database_url, str(tmp_path / "lake"), compacted=False)
    with serving(database_url, HL_LAKE_URL=day.lake.root, HL_API_CACHE_MB="0") as api:
        assert len(api.get(FILLS, **ASKED)["fills"]) == day.count
        Path(day.lake.root, day.hours[0]).write_bytes(b"x" * 1000)
        response = api.ask(FILLS, **ASKED)
    assert (response.status_code, day.hours[0] in response.json()["detail"]) == (500, True)


def test_a_day_at_rest_answers_while_its_hours_are_replaced(day: Thinned, api: Api) -> None:
    """Loading replaces the hours before the ledger knows. Until then, the compacted file is the day."""
    for hour in day.hours:
        Path(day.lake.root, hour).unlink()
    assert len(api.get(FILLS, **ASKED)["fills"]) == day.count


def test_a_query_that_needs_too_much_memory_names_the_setting(day: Thinned) -> None:
    engine = LakeEngine(day.lake.root, 1, 1)
    engine.open()
    app = FastAPI()
    add_error_handlers(app)
    of_day = DayInLake(DAY, day.count, (day.file,), (), frozenset())
    values = {"start": _START, "end": _END, "given": 0, "wallet": None, "coin": None, "twap_id": None}

    @app.get("/")
    def read() -> int:
        return sum(len(rows) for rows in engine.read(engine.cursor(), [of_day], values, None, 100))

    response = TestClient(app).get("/")
    engine.close()
    assert (response.status_code, "HL_API_LAKE_MEMORY_MB" in response.text) == (504, True)


@pytest.fixture
def on_s3(s3: S3Server, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Thinned:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return _thin(tmp_path, database_url, f"{s3.new_bucket()}/lake")


def test_denied_access_to_s3_is_named_with_bucket_and_key(on_s3: Thinned, s3: S3Server) -> None:
    bucket = on_s3.lake.root.partition("/")[0]
    with serving(on_s3.url, HL_LAKE_URL=on_s3.lake.url, HL_API_CACHE_MB="0") as api:
        assert len(api.get(FILLS, **ASKED)["fills"]) == on_s3.count
        s3.ours.remove(bucket)
        denied = api.ask(FILLS, **ASKED)
    # An API that starts now may still open the bucket: keys of a role often cannot list it.
    with serving(on_s3.url, HL_LAKE_URL=on_s3.lake.url, HL_API_CACHE_MB="0") as api:
        from_start = api.ask(FILLS, **ASKED)
    for response in (denied, from_start):
        detail = response.json()["detail"]
        assert response.status_code == 503
        assert f"the lake cannot be read: s3://{on_s3.lake.root}/{on_s3.file} cannot be read: " in detail
        assert "ACCESS_DENIED" in detail
        assert response.headers["Retry-After"] == "2"


def test_a_key_that_is_missing_on_s3_is_tried_again_then_named(on_s3: Thinned) -> None:
    with serving(on_s3.url, HL_LAKE_URL=on_s3.lake.url, HL_API_CACHE_MB="0") as api:
        on_s3.lake.filesystem.delete_file(f"{on_s3.lake.root}/{on_s3.file}")
        response = api.ask(FILLS, **ASKED)
    assert (response.status_code, f"{on_s3.file} is not there" in response.json()["detail"]) == (503, True)


def test_an_s3_that_no_longer_answers_is_named_with_bucket_and_key(on_s3: Thinned, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_s3() as second:
        second.ours.add(on_s3.lake.root.partition("/")[0])
        monkeypatch.setenv("AWS_ENDPOINT_URL", second.url)
        with serving(on_s3.url, HL_LAKE_URL=on_s3.lake.url, HL_API_CACHE_MB="0", HL_API_STATEMENT_TIMEOUT_SECONDS="1") as api:
            # It knows the bucket, and no file yet.
            api.ask(FILLS, **{**ASKED, "end": f"{DAY}T00:00:00.001Z", "coin": "NOTHING"})
            second.answers.clear()
            began = time.perf_counter()
            response = api.ask(FILLS, **ASKED)
            took = time.perf_counter() - began
    detail = response.json()["detail"]
    assert (response.status_code, f"s3://{on_s3.lake.root}/{on_s3.file} cannot be read: " in detail) == (503, True), detail
    assert took < 20
