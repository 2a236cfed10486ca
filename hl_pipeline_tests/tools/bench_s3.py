"""Parts of `make bench`: the duration of sensor checks with 11,000 objects in the bucket, and hours of a real size through an S3
with 10 MB/s per connection. Shows how much HL_S3_OBJECTS_AT_ONCE saves compared with sequential download and decoding.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import multiprocessing.connection
import os
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from dagster import DagsterInstance

from hl_pipeline.automation import find_failed_days
from hl_pipeline.domain.datasets import BY_BLOCK
from hl_pipeline.lake.store import open_lake
from hl_pipeline.settings import NONE, Settings
from hl_pipeline.stages.fetch import fetch_day
from hl_pipeline.stages.look_for_days import look_at_everything, look_for_fills
from hl_pipeline.stages.raw_tables import RAW_FILLS
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.servers.flaky_s3 import serve_flaky
from hl_pipeline_tests.servers.s3 import REGION, serve_s3

_RATE = 10e6
LOADED = """
WITH objects AS (
    INSERT INTO hl.s3_ingest_log (object_id, object_key, source, object_date, object_hour, etag, rows, first_time, last_time,
                                  fetched_at, loaded_at)
    SELECT 3000000 + n * 24 + hour, format('node_fills_by_block/hourly/%%s/%%s.lz4', to_char(day, 'YYYYMMDD'), hour),
           'node_fills_by_block', day, hour, %(etag)s, 1, day + hour * interval '1 hour', day + hour * interval '1 hour',
           now(), now()
    FROM (SELECT n, %(today)s::date - n AS day FROM generate_series(0, %(days)s - 1) n) days, generate_series(0, 23) hour
    RETURNING object_id, object_date
), days AS (
    INSERT INTO hl.fills_days (date, rows, duplicates, state, explanation, candles_at, daily_stats_at, user_stats_at,
                               builder_stats_at, twaps_at)
    SELECT DISTINCT object_date, 24, 0, 'whole', '', now(), now(), now(), now(), now() FROM objects RETURNING date
)
INSERT INTO hl.fills_day_objects (date, object_id, etag, rows, parser)
SELECT object_date, object_id, %(etag)s, 1, 1 FROM objects JOIN days ON date = object_date
"""
"""SQL for a ledger of `days` loaded days with 24 objects each, up to `today`. The objects have `etag`."""
_BUCKET = "hours"


def measure(day: date) -> dict[str, float]:
    """Measure fills per second from this S3 into a new lake, by objects at once; first from a directory, without a network."""
    settings = Settings()
    migrate(find_database_url(settings))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs, settings.node_data_url), daemon=True)
    server.start()
    os.environ |= ours.recv()
    try:
        return {"decode + lake, no link": _rate_of(day, settings, settings.node_data_url)} | {
            f"{_RATE / 1e6:.0f} MB/s a connection, {n} at once": _rate_of(
                day, settings.model_copy(update={"s3_objects_at_once": n}), f"s3://{_BUCKET}"
            )
            for n in (1, 2, 4)
        }
    finally:
        server.terminate()


def _rate_of(day: date, settings: Settings, url: str) -> float:
    with tempfile.TemporaryDirectory(dir=settings.home) as lake:
        began = time.perf_counter()
        of_url = settings.model_copy(update={"node_data_url": url, "node_data_region": REGION})
        fetched = fetch_day(RAW_FILLS, day, open_lake(lake), of_url)
        return sum(meta.rows for meta in fetched.objects) / (time.perf_counter() - began)


def measure_looks() -> dict[str, float]:
    """Measure the seconds of a sensor check and of the nightly one, with 458 loaded days of 24 objects in the fills bucket."""
    settings = Settings()
    url = find_database_url(settings)
    migrate(url)
    today = datetime.now(UTC).date()
    with serve_s3() as s3, DagsterInstance.ephemeral() as instance, connect(url) as connection:
        os.environ |= s3.environment
        client = s3.client()
        client.create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for n in range(458):
            day = today - timedelta(days=n)
            for hour in range(24):
                client.put_object(Bucket=_BUCKET, Key=f"{BY_BLOCK.name}/hourly/{day:%Y%m%d}/{hour}.lz4", Body=b"")
        connection.execute(LOADED, {"today": today, "etag": hashlib.md5(usedforsecurity=False).hexdigest(), "days": 458})
        in_s3 = {"node_data_url": f"s3://{_BUCKET}", "node_data_region": REGION, "twap_data_url": NONE}
        settings = settings.model_copy(update=in_s3)
        began = time.perf_counter()
        assert look_for_fills(connection, settings, today) == []
        looked = time.perf_counter()
        assert look_at_everything(connection, settings, find_failed_days(instance)) == ([], [], [])
        ended = time.perf_counter()
        [(requests,)] = connection.execute("SELECT count(*) FROM hl.s3_requests").fetchall()
    return {"a sensor's look, seconds": looked - began, "the nightly look, seconds": ended - looked, "LISTs of both": requests}


def _serve(pipe: multiprocessing.connection.Connection, node_data_dir: str) -> None:
    with serve_s3() as s3, serve_flaky(s3) as flaky:
        s3.client().create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for path in Path(node_data_dir).rglob("*.lz4"):
            s3.client().upload_file(str(path), _BUCKET, str(path.relative_to(node_data_dir)))
        flaky.rate = _RATE
        pipe.send({**s3.environment, "AWS_ENDPOINT_URL": flaky.url})
        time.sleep(3600)
