"""A soak: `hl up` loads objects as they arrive and answers queries, minute after minute. Its memory must stay flat.

Each hour of a day's objects appears in the bucket after the one before, so that sensors launch runs all the time. The memory of
each service is its proportional set size (PSS), with all its children but runs.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import requests

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import embedded_url
from hl_pipeline_tests.naive.fills import event_day, expected_fill, read_bucket
from hl_pipeline_tests.services import Up, processes_of, up_in
from hl_pipeline_tests.tools.reliability.outcome import NewDatabase, Outcome, timed

_SECONDS_BETWEEN_OBJECTS = 15.0
_SECONDS_BETWEEN_LOOKS = 5.0
_SERVICES = {"webserver": "dagster-webserver", "daemon": "dagster-daemon", "API": "uvicorn", "code server": "api grpc"}
_PARTS = 4
_FLAT_SHARE, _FLAT_MB = 0.05, 15.0
"""Growth of the median from the third quarter of the time to the last one that still is flat: the greater of the two."""
_NOT_JUDGED = ("PostgreSQL",)  # its shared buffers fill up


def soak(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:  # noqa: ARG001
    """Each case is a minute."""
    minutes = sum(1 for _ in cases)
    first = datetime.now(UTC).date() - timedelta(days=3)
    made = write_sample(directory / "sample", first_day=first, days=3, fills_per_hour=100).node_data_dir
    bucket = directory / "bucket"
    bucket.mkdir()
    with timed(f"soak of {minutes} minutes") as outcome:
        looks: dict[str, list[float]] = defaultdict(list)
        counts = {"objects": 0, "requests": 0, "failed": 0}
        with up_in(
            directory, HL_NODE_DATA_URL=str(bucket), HL_TWAP_DATA_URL="none", HL_SENSOR_SECONDS="5", HL_FILLS_KEEP_DAYS="5"
        ) as up:
            stop = threading.Event()
            threads = [
                threading.Thread(target=_publish, args=(made, bucket, counts, stop)),
                threading.Thread(target=_query, args=(up, first, counts, stop)),
            ]
            for thread in threads:
                thread.start()
            end = time.monotonic() + 60 * minutes
            while time.monotonic() < end:
                for name, mb in _measure(up).items():
                    looks[name].append(mb)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            stop.set()
            for thread in threads:
                thread.join()
            outcome.wrong += _wait_for_rows(up, bucket)
        outcome.cases = minutes
        told: list[str] = []
        for name, mb in looks.items():
            size = max(len(mb) // _PARTS, 1)
            medians = [statistics.median(mb[part * size : (part + 1) * size]) for part in range(len(mb) // size)][:_PARTS]
            told.append(f"{name} {' → '.join(f'{median:.0f}' for median in medians)}")
            before, last = medians[-2:]
            if name not in _NOT_JUDGED and last - before > max(_FLAT_SHARE * before, _FLAT_MB):
                outcome.wrong.append(f"{name} grew from {before:.0f} MB to {last:.0f} MB in the last part")
        if counts["failed"]:
            outcome.wrong.append(f"{counts['failed']} requests failed")
        outcome.measured = f"{counts['objects']} objects, {counts['requests']:,} requests; MB in each quarter: {', '.join(told)}"
    return outcome


def _publish(made: Path, bucket: Path, counts: dict[str, int], stop: threading.Event) -> None:
    objects = sorted(made.rglob("*.lz4"), key=lambda path: (path.parent.name, int(path.stem)))
    for path in objects:
        target = bucket / path.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target.with_suffix(".part"))
        target.with_suffix(".part").rename(target)
        counts["objects"] += 1
        if stop.wait(_SECONDS_BETWEEN_OBJECTS):
            return
    stop.wait()


def _query(up: Up, first: date, counts: dict[str, int], stop: threading.Event) -> None:
    span = f"start={first}&end={first + timedelta(days=2)}"
    paths = [f"/api/v1/coverage/days?{span}", f"/api/v1/candles?coin=BTC&interval=1h&{span}", "/metrics", "/healthz"]
    with requests.Session() as session:
        while not stop.wait(0.2):
            path = paths[counts["requests"] % len(paths)]
            counts["requests"] += 1
            counts["failed"] += session.get(up.api + path, timeout=60).status_code != 200


def _measure(up: Up) -> dict[str, float]:
    """Return the MB of each service of `hl up`, and of PostgreSQL."""
    sums: dict[str, float] = defaultdict(float)
    for process in {*processes_of(up.home), *up.program.tree(), *_postgres_of(up.home)}:
        try:
            words = " ".join(process.cmdline())
            name = next((name for name, word in _SERVICES.items() if word in words), None)
            if process.name() == "postgres":
                name = "PostgreSQL"
            elif words.endswith("hl up"):
                name = "hl up"
            if name is not None:
                sums[name] += process.memory_full_info().pss / 1e6
        except psutil.Error:
            continue
    return sums


def _postgres_of(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() == "postgres" and Path(process.cwd()) == home / "postgres":
                yield process


def _wait_for_rows(up: Up, bucket: Path) -> list[str]:
    """Wait until the last object is loaded, and compare the number of rows of each day with the objects."""
    wanted: dict[date, int] = defaultdict(int)
    first = min(path.parent.name for path in bucket.rglob("*.lz4"))
    for block, user, fill in read_bucket(bucket):
        # The first object also has the last fills of the day before, which has no objects of its own.
        if f"{(day := event_day(expected_fill(block, user, fill))):%Y%m%d}" >= first:
            wanted[day] += 1
    deadline, found = time.monotonic() + 180, dict[date, int]()
    while time.monotonic() < deadline:
        with psycopg.connect(embedded_url(up.home)) as connection:
            found = dict(connection.execute("SELECT date, rows FROM hl.fills_days WHERE rows > 0").fetchall())
        if found == wanted:
            return []
        time.sleep(2)
    return [f"rows per day: {found}, in the objects: {dict(wanted)}"]
