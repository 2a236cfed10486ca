"""The demo's own info API: it returns the sample's data of a wallet within the documented limits, and shards query it."""

from __future__ import annotations

import json
from collections.abc import Generator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import pytest
import requests

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.formats.api_fills import decode_fills, decode_twap_slices
from hl_pipeline.formats.exact_decode import parse_json
from hl_pipeline.formats.twap_statuses import decode_history
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.sample.info_server import serve_info
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.processes import users_environment

DAY = date(2026, 3, 15)
_KEY = ["time", "coin", "side", "tid"]
_EVER = {"startTime": 0, "endTime": 2**53}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("info")
    write_sample(directory, first_day=DAY, fills_per_hour=60, record_legs=True)
    return directory


@pytest.fixture
def url(sample: Path) -> Generator[str]:
    with serve_info(sample) as url:
        yield url


def _ask(url: str, kind: str, wallet: str, **more: int) -> requests.Response:
    return requests.post(url, json={"type": kind, "user": wallet, **more}, timeout=10)


def _busiest(sample: Path, column: str = "wallet") -> str:
    legs = pl.read_parquet(sample / "truth" / "legs.parquet").filter(pl.col("twap_id").is_not_null())
    return legs[column].mode().sort()[0]


def test_the_answers_are_the_fills_slices_and_statuses_of_the_truth(sample: Path, url: str) -> None:
    wallet = _busiest(sample)
    legs = pl.read_parquet(sample / "truth" / "legs.parquet").filter(pl.col("wallet") == wallet)
    statuses = pl.read_parquet(sample / "truth" / "statuses.parquet").filter(pl.col("wallet") == wallet)

    own = decode_fills(parse_json(_ask(url, "userFillsByTime", wallet, **_EVER).content), wallet)  # type: ignore[arg-type]
    slices = decode_twap_slices(parse_json(_ask(url, "userTwapSliceFillsByTime", wallet, **_EVER).content), wallet)  # type: ignore[arg-type]
    history = decode_history(parse_json(_ask(url, "twapHistory", wallet.upper().replace("0X", "0x")).content), wallet)  # type: ignore[arg-type]

    for got, of_truth in ((own, pl.col("twap_id").is_null()), (slices, pl.col("twap_id").is_not_null())):
        expected = legs.filter(of_truth)
        assert expected.height > 0
        assert not got.bad
        columns = [*_KEY, "twap_id", "px", "sz", "fee", "start_position"]
        rows = got.fills.with_columns(
            pl.col("time").cast(pl.Int64), pl.col("side").cast(pl.String), pl.col("coin").cast(pl.String)
        )
        assert sorted(map(str, rows.select(columns).rows())) == sorted(map(str, expected.select(columns).rows()))
    assert not history.bad
    told = history.statuses.select("twap_id", "status", "size_requested", "size_executed", "notional_executed")
    assert sorted(map(str, told.rows())) == sorted(map(str, statuses.select(told.columns).rows()))


def test_a_window_is_of_both_its_ends_the_oldest_first(sample: Path, url: str) -> None:
    wallet = _busiest(sample)
    every: list[dict[str, Any]] = _ask(url, "userFillsByTime", wallet, **_EVER).json()
    times = [fill["time"] for fill in every]
    assert times == sorted(times)
    first, last = times[1], times[-2]
    window = _ask(url, "userFillsByTime", wallet, startTime=first, endTime=last).json()
    assert window == [fill for fill in every if first <= fill["time"] <= last]
    assert _ask(url, "userFillsByTime", wallet, startTime=last).json() == [fill for fill in every if fill["time"] >= last]


def test_a_page_has_2000_fills_and_10000_of_the_newest_can_be_reached(tmp_path: Path) -> None:
    wallet = "0x" + "A" * 40
    fills = [{"time": n // 2, "tid": n, "twapId": 5 if n % 10 == 0 else None} for n in range(10_500)]
    path = tmp_path / "hl-mainnet-node-data" / "node_fills_by_block" / "hourly" / "20260315" / "9.lz4"
    path.parent.mkdir(parents=True)
    path.write_bytes(lz4.frame.compress(json.dumps({"events": [[wallet, fill] for fill in fills]}).encode()))
    with serve_info(tmp_path) as url:
        page = [fill["tid"] for fill in _ask(url, "userFillsByTime", wallet, **_EVER).json()]
        assert page == [n for n in range(500, 10_500) if n % 10][:2_000]
        slices = _ask(url, "userTwapSliceFillsByTime", wallet, **_EVER).json()
        assert [part["fill"]["tid"] for part in slices] == list(range(500, 10_500, 10))
        assert {(part["twapId"], "twapId" in part["fill"]) for part in slices} == {(5, False)}


def test_the_weight_of_a_minute_is_limited(url: str) -> None:
    unknown = "0x" + "f" * 40
    answers = [_ask(url, "twapHistory", unknown) for _ in range(61)]
    assert {(answer.status_code, answer.text) for answer in answers[:60]} == {(200, "[]")}
    assert (answers[60].status_code, answers[60].text) == (429, "null")


@pytest.mark.parametrize("body", ["{", "[]", '{"type": "userFillsByTime", "user": "0x12", "startTime": 0}',
                                  '{"type": "userFillsByTime", "user": "0x' + "a" * 40 + '"}',
                                  '{"type": "clearinghouseState", "user": "0x' + "a" * 40 + '"}'])  # fmt: skip
def test_a_question_that_is_none_is_refused_with_422(url: str, body: str) -> None:
    answer = requests.post(url, data=body, timeout=10)
    assert (answer.status_code, answer.text) == (422, "Failed to deserialize the JSON body into the target type")


@pytest.mark.slow
def test_a_shard_of_the_demo_is_fetched_and_no_fill_is_counted_twice(directory: Path) -> None:
    write_sample(directory / ".hl-demo" / "sample", first_day=DAY, fills_per_hour=20)

    def hl(*words: str) -> str:
        done = run_in_process(directory, users_environment(), *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    hl("ingest", "--demo", "--from", str(DAY), "--to", str(DAY))
    before = json.loads(hl("status", "--demo", "--json"))
    fills = json.loads(hl("show", "fills", "--demo", "--limit", "200", "--json"))
    shard = shard_of(fills[0]["wallet"])

    asked = hl("--demo", "backfill", "--shard", shard)

    assert f"{shard}  complete" in asked
    assert "(`hl --demo ingest --dirty`)" in asked
    again = hl("--demo", "ingest", "--dirty")
    assert "From the info API " in again
    after = json.loads(hl("status", "--demo", "--json"))
    assert [day["rows"] for day in after["days"]] == [day["rows"] for day in before["days"]]
    start = datetime(2026, 3, 15, tzinfo=UTC)
    assert after["settings"]["HL_BACKFILL_FROM"] == str(start)
    assert not (directory / ".hl").exists()
