"""The real records, through the whole pipeline as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import lz4.frame
import polars as pl
import pytest

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import Done, run_in_process, run_program
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.servers.s3 import S3Server

BUCKET = "s3/hl-mainnet-node-data"


def _ingest(environment: dict[str, str], run: Callable[..., Done] = run_in_process) -> Done:
    return run(Path.cwd(), environment, "ingest", "--from", "2026-03-14", "--to", "2026-03-15")


def _assert_every_real_fill_is_there(world: World, samples: Path) -> None:
    expected = [expected_fill(block, user, fill) for block, user, fill in read_bucket(samples / BUCKET)]
    stored = stored_fills(world.database_url)
    assert len(expected) == 1388
    assert {(fill["date"], event_day(fill)) for fill in stored} == {
        (date(2026, 3, 14), date(2026, 3, 14)),
        (date(2026, 3, 15), date(2026, 3, 15)),
    }
    assert in_order(without(stored, "date")) == in_order(expected)


def test_the_real_fills_are_on_their_days_with_every_field_and_other_hours_missing(world: World, samples: Path) -> None:
    done = _ingest({**world.environment, "HL_NODE_DATA_URL": str(samples / BUCKET)})

    assert done.returncode == 3, done.stderr
    assert "24 of 25 objects missing: 2026-03-14 00-23 h (no such object" in done.stdout
    _assert_every_real_fill_is_there(world, samples)
    lake = pl.read_parquet(f"{world.environment['HL_LAKE_URL']}/fills/*/*.parquet", hive_partitioning=True)
    assert lake.group_by("date").len().sort("date").rows() == [(date(2026, 3, 14), 18), (date(2026, 3, 15), 1370)]


def test_the_25_real_trades_of_node_trades_are_50_legs_and_25_trades(world: World, samples: Path) -> None:
    text = (samples / "node_trades_20250624_2.jsonl").read_bytes()
    path = world.bucket / "node_trades/hourly/20250624/2.lz4"
    path.parent.mkdir(parents=True)
    path.write_bytes(lz4.frame.compress(text))

    done = run_in_process(Path.cwd(), world.environment, "ingest", "--from", "2025-06-24", "--to", "2025-06-24")

    assert done.returncode == 3, done.stderr
    trades = [json.loads(line, parse_float=Decimal) for line in text.splitlines()]
    expected = {
        (trade["coin"], leg["user"], side, Decimal(trade["px"]), Decimal(trade["sz"]), Decimal(leg["start_pos"]), leg["oid"],
         other["oid"], side == trade["side"], leg["twap_id"], leg["cloid"], trade["hash"], None, None, None)
        for trade in trades
        for side, leg, other in zip("BA", trade["side_info"], reversed(trade["side_info"]), strict=True)
    }  # fmt: skip
    with connect(world.database_url) as connection:
        stored = connection.execute(
            "SELECT coin, wallet, side, px, sz, start_position, oid, counterparty_oid, crossed, twap_id, cloid, hash, "
            "tid, fee, dir FROM hl.fills_readable"
        ).fetchall()
        counted = connection.execute("SELECT sum(trades), sum(notional), count(fees) FROM hl.daily_stats").fetchone()
    assert len(stored) == len(expected) == 50
    assert set(stored) == expected
    assert counted == (25, sum(Decimal(trade["px"]) * Decimal(trade["sz"]) for trade in trades), 0)


@pytest.mark.slow
def test_the_real_fills_come_through_an_s3_server_that_refuses_who_does_not_pay(
    world: World, samples: Path, s3: S3Server
) -> None:
    key = "node_fills_by_block/hourly/20260315/0.lz4"
    client = s3.client()
    client.create_bucket(Bucket="real", CreateBucketConfiguration={"LocationConstraint": "ap-northeast-1"})
    client.put_object(Bucket="real", Key=key, Body=(samples / BUCKET / key).read_bytes())
    before = len(s3.requests)
    environment = {**world.environment, **s3.environment, "HL_NODE_DATA_URL": "s3://real"}

    done = _ingest(environment, run_program)

    assert done.returncode == 3, done.stderr
    _assert_every_real_fill_is_there(world, samples)
    first = s3.requests[before:]
    assert [path for method, path, _ in first if method == "GET" and path.endswith(".lz4")] == [f"/real/{key}"]
    assert all(pays for _, _, pays in first)

    again = _ingest(environment)

    assert again.returncode == 3, again.stderr
    assert not [path for _, path, _ in s3.requests[before + len(first) :] if path.endswith(".lz4")]
    _assert_every_real_fill_is_there(world, samples)
