"""Part of `make bench`: `hl ingest` of a small day as a user runs it, compared with other programs on the same objects."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.servers.s3 import REGION, serve_s3
from hl_pipeline_tests.tools.bench_references import decode_with_duckdb, ingest_with_hl_data, install_hl_data

_DAY = date(2026, 3, 15)
_BUCKET = "hl-mainnet-node-data"
_WHOLE_OR_INCOMPLETE = (0, 3)


def measure(home: Path) -> dict[str, float]:
    """Measure one day of 24 hours with 40,000 fills each, and the hour after it, in seconds."""
    with tempfile.TemporaryDirectory(dir=home) as name:
        directory = Path(name)
        sample = write_sample(directory / "sample", first_day=_DAY, hours=25, fills_per_hour=40_000)
        objects = sorted(sample.node_data_dir.rglob("*/20260315/*.lz4"))
        decoded, fills = decode_with_duckdb(objects, directory)
        sources = {"HL_NODE_DATA_URL": str(sample.node_data_dir), "HL_TWAP_DATA_URL": str(sample.twap_data_dir)}
        # The first run on a new machine also creates a database and compiles the scanners.
        new = _ingest(directory / "new", sources | {"NUMBA_CACHE_DIR": str(directory / "compiled")})
        with _serving(sample.node_data_dir) as s3:
            # This installation has run before.
            _ingest(directory / "home", sources, _DAY + timedelta(days=1))
            in_s3 = sources | s3 | {"HL_NODE_DATA_URL": f"s3://{_BUCKET}", "HL_NODE_DATA_REGION": REGION, "HL_S3_BUDGET_USD": "1"}
            ours = _ingest(directory / "home", in_s3)
            theirs = ingest_with_hl_data(install_hl_data(directory / "hl-data"), _DAY, directory / "theirs", s3)
    return {
        "a small day: fills": fills,
        "hl ingest, directory, new installation, seconds": new,
        "DuckDB decoding its lines, seconds": decoded,
        "share: new installation / DuckDB": new / decoded,
        "hl ingest, S3, seconds": ours,
        "hl-data fills, S3, seconds": theirs,
        "share: hl ingest / hl-data": ours / theirs,
    }


def _ingest(home: Path, environment: dict[str, str], day: date = _DAY) -> float:
    # Each installation has an embedded database of its own, not the benchmark's.
    outside = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    began = time.perf_counter()
    ran = subprocess.run(
        [Path(sys.executable).with_name("hl"), "ingest", "--from", str(day), "--to", str(day)],
        env={**outside, **environment, "HL_HOME": str(home), "HL_LAKE_URL": str(home / "lake")},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode not in _WHOLE_OR_INCOMPLETE:
        raise RuntimeError(ran.stdout + ran.stderr)
    return time.perf_counter() - began


@contextmanager
def _serving(directory: Path) -> Generator[dict[str, str]]:
    """Run moto's server in a separate process, with a directory's objects in one bucket. Yields the settings of its clients."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs, directory), daemon=True)
    server.start()
    try:
        yield ours.recv()
    finally:
        server.terminate()


def _serve(pipe: multiprocessing.connection.Connection, directory: Path) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with serve_s3() as s3:
        s3.client().create_bucket(Bucket=_BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        for path in directory.rglob("*.lz4"):
            s3.client().upload_file(str(path), _BUCKET, str(path.relative_to(directory)))
        pipe.send(s3.environment)
        time.sleep(3600)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="hl-bench-") as directory:
        for name, value in measure(Path(directory)).items():
            print(f"{name:<55}{value:>12,.2f}")  # noqa: T201
