"""Part of `make bench`: hours of a real size through an S3 whose every connection carries 10 MB/s, and how much of the time that
downloads and decoding would take one after the other HL_S3_OBJECTS_AT_ONCE saves.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import tempfile
import time
from datetime import date
from pathlib import Path

from hl_pipeline.assets.raw import bring_day
from hl_pipeline.lake import open_lake
from hl_pipeline.resources import NodeData
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import find_database_url
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline_tests.flaky_s3 import serve_flaky
from hl_pipeline_tests.s3_server import REGION, serve_s3

_RATE = 10e6
_BUCKET = "hours"


def measure(day: date) -> dict[str, float]:
    """Fills a second from such an S3 into a new lake each, by objects at once; first from a directory, which has no link."""
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
        brought = bring_day(day, NodeData(url=url, region=REGION), open_lake(lake), settings)
        return sum(meta.rows for meta in brought.found) / (time.perf_counter() - began)


def _serve(pipe: multiprocessing.connection.Connection, node_data_dir: str) -> None:
    with serve_s3() as s3, serve_flaky(s3) as flaky:
        s3.client().create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for path in Path(node_data_dir).rglob("*.lz4"):
            s3.client().upload_file(str(path), _BUCKET, str(path.relative_to(node_data_dir)))
        flaky.rate = _RATE
        pipe.send({**s3.environment, "AWS_ENDPOINT_URL": flaky.url})
        time.sleep(3600)
