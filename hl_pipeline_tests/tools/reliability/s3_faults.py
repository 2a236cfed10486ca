"""Eight kinds of S3 faults at random requests of a day: in the end, the rows are those of a day without faults."""

from __future__ import annotations

import os
import random
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from pathlib import Path
from unittest import mock

from pydantic import SecretStr

from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import NONE, Settings
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.load_fills import load_objects
from hl_pipeline.stages.raw_tables import RAW_FILLS
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.servers.flaky_s3 import FlakyS3, Kind, serve_flaky
from hl_pipeline_tests.servers.s3 import REGION, serve_s3
from hl_pipeline_tests.tools.reliability.outcome import NewDatabase, Outcome, drop_database, timed

DAY = date(2026, 3, 15)
KINDS: tuple[Kind, ...] = ("500", "503", "reset", "cut", "stall", "short", "extra", "flipped")
_CHANCE = 0.4
_RUNS_WITH_FAULTS = 2
_REQUESTS = "SELECT method, key, bytes, dollars, error FROM hl.s3_requests"
_ERRORS = "SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL"


def fail_s3(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Let a share of the requests of a day fail, each case with one kind of fault. The last run has no faults."""
    made = write_sample(directory / "sample", first_day=DAY, hours=4, fills_per_hour=5).node_data_dir
    every = [expected_fill(block, user, fill) for block, user, fill in read_bucket(made)]
    wanted = in_order([fill for fill in every if event_day(fill) == DAY])
    objects = [*made.rglob("*.lz4")]
    faults = requests = 0
    with timed("S3 faults: 8 kinds") as outcome, serve_s3() as s3, serve_flaky(s3) as flaky:
        bucket = f"b{uuid.uuid4().hex}"
        s3.client().create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for path in objects:
            s3.client().put_object(Bucket=bucket, Key=str(path.relative_to(made)), Body=path.read_bytes())
        with mock.patch.dict(os.environ, {**s3.environment, "AWS_ENDPOINT_URL": flaky.url}):
            for case in cases:
                outcome.cases += 1
                kind = KINDS[case % len(KINDS)]
                url, lake = new_database(), directory / f"lake-{case}"
                flaky.log.clear()
                flaky.random = random.Random(f"{seed} {case}")
                flaky.kinds = (kind,)
                _ingest(flaky, bucket, url, lake, seconds=0.3 if kind == "stall" else 5)
                for problem in _problems(flaky, url, wanted, len(objects)):
                    outcome.wrong.append(f"case {case} ({kind}): {problem}")
                faults, requests = faults + _count_errors(url), requests + len(flaky.log)
                drop_database(url)
                shutil.rmtree(lake)
        outcome.measured = f"{requests:,} requests, of them {faults:,} failed"
    return outcome


def _ingest(flaky: FlakyS3, bucket: str, url: str, lake: Path, seconds: float) -> None:
    settings = Settings(
        database_url=SecretStr(url),
        lake_url=str(lake),
        node_data_url=f"s3://{bucket}",
        twap_data_url=NONE,
        s3_attempts=3,
        s3_backoff_seconds=0.001,
        s3_timeout_seconds=seconds,
    )
    for chance in (*[_CHANCE] * _RUNS_WITH_FAULTS, 0.0):
        flaky.chance = chance
        with connect(url, "test") as connection:
            try:
                fetch_day(RAW_FILLS, DAY, open_lake(settings.lake), settings)
            except Exception:
                # A bucket that cannot be listed ends a run. Without faults, nothing may.
                if not chance:
                    raise
            load_objects(DAY, open_lake(settings.lake), connection, settings)


def _count_errors(url: str) -> int:
    with connect(url, "test") as connection:
        row = connection.execute("SELECT count(*) FROM hl.s3_requests WHERE error IS NOT NULL").fetchone()
    assert row is not None
    return row[0]


def _problems(flaky: FlakyS3, url: str, wanted: list[dict[str, object]], objects: int) -> list[str]:
    problems: list[str] = []
    with connect(url, "test") as connection:
        requests = connection.execute(_REQUESTS).fetchall()
        errors = connection.execute(_ERRORS).fetchall()
    if (stored := in_order(without(stored_fills(url), "date"))) != wanted:
        problems.append(f"{len(stored)} rows that are not the {len(wanted)} of the objects")
    if errors:
        problems.append(f"the ledger still has errors: {errors[0]}")
    # boto3 does not tell how much of a listing came before it gave up, so of listings only their number is compared.
    ledger = Counter((method, size if method == "GET" else None) for method, _, size, _, _ in requests)
    server = Counter((sent.method, sent.bytes if sent.method == "GET" else None) for sent in flaky.log)
    if ledger != server:
        problems.append(f"only in the ledger {dict(ledger - server)}, only at the server {dict(server - ledger)}")
    taken = [key for method, key, _, _, error in requests if method == "GET" and error is None]
    if len(taken) != len(set(taken)) or len(taken) != objects:
        problems.append(f"{len(taken)} whole downloads of {objects} objects")
    if any(dollars < Decimal(0) for _, _, _, dollars, _ in requests):
        problems.append("a request without its cost")
    return problems
