"""`python -m hl_pipeline_tests.tools.make_release_fixture DIRECTORY`: packs a small installation with every dataset and every
state: both databases as SQL, the lake, and the expected results.

It uses only `hl`, like a user, so that it also runs in a checkout of an earlier release. It adds what the sample does not have:
broken objects, rare kinds of statuses, failing wallets. It fails if any state is missing.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lz4.frame
import psycopg
import pyarrow.parquet as pq

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.embedded import binary, embedded_url, hold
from hl_pipeline_tests.naive.fills import event_day, read_bucket
from hl_pipeline_tests.processes import program, started, wait_until
from hl_pipeline_tests.servers.info_api import Fault, InfoServer, User, make_user, serve_info
from hl_pipeline_tests.servers.s3 import REGION, serve_s3

_FILLS_PER_HOUR = 24
_WHOLE, _INCOMPLETE = date(2025, 9, 1), date(2025, 9, 2)
# The first day has some of its objects, the second has none.
_PENDING = (date(2025, 9, 3), date(2025, 9, 5))
_UNPROVABLE, _CHANGES_SOURCE, _ON_S3 = date(2025, 6, 10), date(2025, 7, 27), date(2025, 4, 10)
_NO_SOURCE, _OF_API = date(2024, 1, 1), date(2024, 11, 3)
_BY_BLOCK = "node_fills_by_block/hourly"
# The hours whose objects are kept in the bucket. All other objects are missing.
_HOURS = {
    f"{_BY_BLOCK}/20250902": (0, 1, 2, 3, 6),
    f"{_BY_BLOCK}/20250903": (0, 1),
    f"{_BY_BLOCK}/20250727": (8, 9, 10),
    "node_fills/hourly/20250727": (6, 7, 8),
    "node_trades/hourly/20250610": (0, 1),
    "node_trades/hourly/20250410": (11, 12),
}
_LAST_FULL_HOUR = 7
"""For the whole day. Its objects have every block but only a tenth of the trades, to keep the fixture small."""
_WINDOW = {"HL_BACKFILL_FROM": "2024-11-03T00:00:00Z", "HL_BACKFILL_TO": "2025-06-12T00:00:00Z"}
_WALLETS = {name: make_user(f"release {name}", count, slices=0.4) for name, count in (
    ("complete", 40), ("without fills", 0), ("refused", 5), ("broken off", 12), ("killed", 3)
)}  # fmt: skip
_PER_DAY = "SELECT (time AT TIME ZONE 'UTC')::date::text, count(*), sum(px * sz)::text FROM hl.fills GROUP BY 1 ORDER BY 1"
EXPECTED = {
    "fills_days": "SELECT date::text, rows, duplicates, state, thinned_at IS NOT NULL FROM hl.fills_days ORDER BY date",
    "twap_days": "SELECT date::text, rows, state FROM hl.twap_days ORDER BY date",
    "coverage": "SELECT source, object_date::text, object_hour, state FROM hl.coverage ORDER BY source, object_date, object_hour",
    "acknowledged": "SELECT source, object_date::text, object_hour, note FROM hl.acknowledged",
    "failed": "SELECT object_key FROM hl.s3_ingest_log WHERE error IS NOT NULL ORDER BY 1",
    "reset": "SELECT object_key FROM hl.s3_ingest_log WHERE reset_of IS NOT NULL ORDER BY 1",
    "quarantined": "SELECT object_key, bad_lines FROM hl.s3_ingest_log WHERE bad_lines > 0 ORDER BY 1",
    "superseded": "SELECT date::text, object_key FROM hl.fills_day_objects o JOIN hl.s3_ingest_log l USING (object_id) "
    "WHERE o.etag <> l.etag ORDER BY 1, 2",
    "dirty_days": "SELECT date::text, reason FROM hl.dirty_days ORDER BY date",
    "wallets": "SELECT state, count(*), sum(fills)::bigint FROM hl.backfill_progress GROUP BY 1 ORDER BY 1",
    "history_errors": "SELECT count(*) FROM hl.backfill_progress WHERE history_error IS NOT NULL",
    "bad_items": "SELECT kind, count(*) FROM hl.backfill_bad GROUP BY 1 ORDER BY 1",
    "verdicts": "SELECT verdict, count(*) FROM hl.twaps GROUP BY 1 ORDER BY 1",
    "twap_slices": "SELECT sum(size_observed)::text, sum(notional_observed)::text, sum(slices)::bigint FROM hl.twaps",
    "statuses": "SELECT date::text, status, count(*) FROM hl.twap_statuses GROUP BY 1, 2 ORDER BY 1, 2",
    "requests": "SELECT method, count(*), sum(bytes)::bigint, sum(dollars)::text FROM hl.s3_requests GROUP BY 1 ORDER BY 1",
    "fills": _PER_DAY,
}
"""The expected results, and the query for each."""
RUNS = "SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1"
"""The same for Dagster's database."""
_STATES = {
    "fills_days": {"whole", "unprovable", "pending", "incomplete", "no source"},
    "twap_days": {"unprovable", "pending", "incomplete", "no source"},
    "coverage": {"present", "unprovable", "not due", "missing", "failed", "blocks missing", "acknowledged"},
    "wallets": {"pending", "started", "complete", "truncated", "failed"},
    "verdicts": {
        "conflict", "excess_fills", "failed", "hole", "match", "missing_fills", "running", "status_missing", "unreported",
        "waiting",
    },
    "bad_items": {"fills", "twap_history"},
}  # fmt: skip
_NOT_EMPTY = ("acknowledged", "failed", "reset", "quarantined", "superseded", "dirty_days", "requests")


def main() -> None:
    """Make the installation in a temporary directory, check that nothing is missing, and pack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where the packed files are written")
    target: Path = parser.parse_args().directory
    target.mkdir(parents=True, exist_ok=True)
    # The path must be short enough for PostgreSQL's socket.
    with TemporaryDirectory(prefix="hl-release-") as name:
        root = Path(name)
        _make_buckets(root)
        (root / "home").mkdir()
        with hold(root / "home") as url:
            _fill(root, url)
            expected = _describe(url, embedded_url(root / "home", "hl_dagster"), root / "home" / "lake")
            _check(expected, root / "bucket")
            for database in ("hl", "hl_dagster"):
                _dump(embedded_url(root / "home", database), target / f"{database}.sql.xz")
        with tarfile.open(target / "lake.tar.xz", "w:xz", preset=9) as archive:
            archive.add(root / "home" / "lake", "lake", filter=_without_owner)
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for path in sorted(target.iterdir()):
        sys.stdout.write(f"{path.stat().st_size:>9,} {path.name}\n")


def _make_buckets(root: Path) -> None:
    """Write samples into one bucket of fills and one of statuses, with some objects removed or damaged."""
    bucket, statuses = root / "bucket", root / "statuses"
    for day, days in ((_WHOLE, 3), (_UNPROVABLE, 1), (_CHANGES_SOURCE, 1), (_ON_S3, 1)):
        made = write_sample(root / f"sample {day}", first_day=day, days=days, fills_per_hour=_FILLS_PER_HOUR)
        shutil.copytree(made.node_data_dir, bucket, dirs_exist_ok=True)
        shutil.copytree(made.twap_data_dir, statuses, dirs_exist_ok=True)
    for directory, hours in _HOURS.items():
        for path in (bucket / directory).iterdir():
            if int(path.stem) not in hours:
                path.unlink()
    for path in (bucket / _BY_BLOCK / f"{_WHOLE:%Y%m%d}").iterdir():
        if int(path.stem) > _LAST_FULL_HOUR:
            _write_lines(path, map(_thin, lz4.frame.decompress(path.read_bytes()).splitlines()))
    spoilt = bucket / _BY_BLOCK / "20250902"
    first, second = (lz4.frame.decompress((spoilt / f"{hour}.lz4").read_bytes()).splitlines(keepends=True) for hour in (1, 2))
    _write_lines(spoilt / "1.lz4", [*first, b"no JSON\n", first[1]])
    _write_lines(spoilt / "2.lz4", [second[0], *second[2:]])
    _cut(spoilt / "3.lz4")
    hourly = statuses / "hourly" / "20250902"
    (hourly / "8.lz4").unlink()
    _cut(hourly / "9.lz4")
    with (hourly / "1.jsonl").open("ab") as file:
        file.write(b"no JSON\n")
    _write_lines(hourly / "22.lz4", _rare_statuses())


def _thin(line: bytes) -> bytes:
    """Return a block with a tenth of its trades."""
    block = json.loads(line)
    events = [event for event in block["events"] if event[1]["tid"] % 10 == 0]
    return json.dumps({**block, "events": events}).encode() + b"\n"


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(lz4.frame.compress(b"".join(lines)))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _rare_statuses() -> list[bytes]:
    """Return the node's lines for rare TWAPs: waiting, running for days, ended without a size, shared by two wallets."""

    def line(
        twap_id: int, minute: int, status: str, *, user: str = "1a", minutes: int = 5, executed: str | None = "0.0"
    ) -> bytes:
        state = {
            "coin": "BTC", "user": "0x" + user * 20, "side": "B", "sz": "1.0", "executedSz": executed, "executedNtl": executed,
            "minutes": minutes, "reduceOnly": False, "randomize": False, "timestamp": 1_756_850_400_000 + minute * 60_000,
        }  # fmt: skip
        at = f"2025-09-02T22:{minute:02}:00.123456789"
        return json.dumps({"time": at, "twap_id": twap_id, "state": state, "status": status}).encode() + b"\n"

    return [
        line(900_001, 0, "waitingForTrigger"),
        line(900_002, 1, "activated", minutes=10_000),
        line(900_003, 2, "activated"),
        line(900_004, 3, "activated"),
        line(900_003, 7, "finished", executed=None),
        line(900_004, 8, "terminated", user="2b"),
    ]


def _fill(root: Path, url: str) -> None:
    """Run every command that leaves records, in an order in which no later command repairs an earlier one's state."""
    bucket = root / "bucket"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HL_", "AWS_", "DAGSTER_"))}
    environment |= {"HL_HOME": str(root / "home"), "HL_NODE_DATA_URL": str(bucket), "HL_TWAP_DATA_URL": str(root / "statuses")}

    def hl(*words: str, code: int = 0, **variables: str) -> None:
        done = subprocess.run([program("hl"), *words], env={**environment, **variables}, cwd=root, check=False)
        if done.returncode != code:
            raise SystemExit(f"hl {' '.join(words)} ended with {done.returncode}, not {code}")

    def ingest(day: date, **variables: str) -> None:
        hl("ingest", "--from", str(day), "--to", str(day), code=0 if day == _WHOLE else 3, **variables)

    ingest(_UNPROVABLE)
    ingest(_CHANGES_SOURCE)
    with serve_s3() as server:
        client = server.client()
        client.create_bucket(Bucket="fixture", CreateBucketConfiguration={"LocationConstraint": REGION})
        for path in bucket.glob("node_trades/hourly/20250410/*"):
            client.upload_file(str(path), "fixture", str(path.relative_to(bucket)))
        ingest(_ON_S3, HL_NODE_DATA_URL="s3://fixture", **server.environment)
    ingest(_WHOLE)
    # The hour between two days has a form that the first day does not have.
    between = bucket / _BY_BLOCK / "20250902" / "0.lz4"
    lines = lz4.frame.decompress(between.read_bytes()).splitlines(keepends=True)
    _write_lines(between, [*lines, lines[-1]])
    ingest(_INCOMPLETE)
    days = ("--from", str(_INCOMPLETE), "--to", str(_INCOMPLETE))
    hl("acknowledge", "--source", "node_fills_by_block", *days, "--hour", "5", "--note", "lost for ever")
    ingest(_INCOMPLETE)
    for day in _PENDING:
        ingest(day, HL_PUBLISH_LAG_HOURS="1000000", HL_TWAP_PUBLISH_LAG_HOURS="1000000")
    ingest(_NO_SOURCE)
    _backfill(hl, environment, root, url)
    ingest(_OF_API)
    hl("drop", "--from", str(_UNPROVABLE), "--to", str(_UNPROVABLE), "--yes")
    hl("reset", "checkpoint", "--object-key", f"{_BY_BLOCK}/20250727/9.lz4", "--yes")


def _backfill(hl: Callable[..., None], environment: dict[str, str], root: Path, url: str) -> None:
    """Fetch wallets with every outcome: complete, refused, aborted, killed, and wallets of the buckets (one is queried)."""
    users = {name: _in_window(user) for name, user in _WALLETS.items()}
    served = {user.wallet: user for user in users.values()}
    refused, broken, killed = (users[name].wallet for name in ("refused", "broken off", "killed"))
    variables = {**_WINDOW, "HL_INFO_ATTEMPTS": "2", "HL_INFO_BACKOFF_SECONDS": "0.01", "HL_INFO_TIMEOUT_SECONDS": "60"}
    with serve_info(InfoServer(served, refused={refused: "Failed to deserialize the JSON body"})) as server:
        variables["HL_INFO_URL"] = server.url
        server.faults.append(Fault("429 after"))
        for name in ("complete", "without fills"):
            hl("backfill", "--wallet", users[name].wallet, code=0, **variables)
        hl("backfill", "--wallet", refused, code=1, **variables)
        server.faults.append(Fault("403", of="TwapSlice"))
        hl("backfill", "--wallet", broken, code=1, **variables)
        # The API has no data of this wallet, but a bucket does.
        hl("backfill", "--all", "--limit", "1", code=1, **variables)
        server.seconds = 60
        command = [program("hl"), "backfill", "--wallet", killed]
        with started(command, {**environment, **variables}, root, root / "killed.log") as program_:
            wait_until(lambda: _is_started(url, killed), 60, "the wallet is in work")
            for process in program_.tree():
                process.kill()


def _is_started(url: str, wallet: str) -> bool:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT state FROM hl.backfill_progress WHERE wallet = %s", [wallet]).fetchone()
    return found == ("started",)


def _in_window(user: User) -> User:
    """Return the same history from the API's day on, with one fill per hour. One fill is bad, and one status has no TWAP."""
    start_ms = int(datetime(_OF_API.year, _OF_API.month, _OF_API.day, tzinfo=UTC).timestamp()) * 1000
    fills = [fill | {"time": start_ms + n * 3_600_000} for n, fill in enumerate(user.fills)]
    if len(fills) > 30:
        fills[7] |= {"px": "cheap"}
    history = [status | {"time": start_ms // 1000 + n * 3600} for n, status in enumerate(user.history)]
    return User(user.wallet, fills, history)


def _describe(url: str, dagster_url: str, lake: Path) -> dict[str, Any]:
    """Read the results with the queries of this module, and the files with pyarrow."""
    with psycopg.connect(dagster_url) as connection:
        runs = [list(row) for row in connection.execute(RUNS.encode())]
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'hl'::regnamespace AND relkind IN ('r', 'p') "
            "AND NOT relispartition ORDER BY 1"
        ).fetchall()
        rows = {name: _first(connection, f"SELECT count(*) FROM hl.{name}") for (name,) in tables}
        found = {name: [list(row) for row in connection.execute(query.encode())] for name, query in EXPECTED.items()}
    return {"rows": rows, **found, "runs": runs, "lake": describe_lake(lake)}


def describe_lake(lake: Path) -> dict[str, Any]:
    """Return the number of files and rows (or lines) of each part of the lake, and the sum of each day's fills."""
    parts: dict[str, list[int]] = {}
    days: dict[str, list[Any]] = {}
    for path in sorted(path for path in lake.rglob("*") if path.is_file()):
        place = path.relative_to(lake).parts
        part = parts.setdefault(f"{place[0]} {path.suffix}", [0, 0])
        part[0] += 1
        if path.suffix != ".parquet":
            part[1] += len(path.read_bytes().splitlines())
            continue
        table = pq.ParquetFile(path).read()
        part[1] += table.num_rows
        if place[0] == "fills":
            day = days.setdefault(place[1].removeprefix("date="), [0, Decimal(0)])
            day[0] += table.num_rows
            day[1] = _add_notional(day[1], zip(table["px"].to_pylist(), table["sz"].to_pylist(), strict=True))
    return {"parts": parts, "fills": [[day, rows, f"{notional:.20f}"] for day, (rows, notional) in days.items()]}


def _add_notional(total: Decimal, pairs: Iterable[tuple[Decimal, Decimal]]) -> Decimal:
    """Return the exact sum."""
    with localcontext(prec=100):
        return sum((px * sz for px, sz in pairs), total)


def _first(connection: psycopg.Connection, query: str) -> Any:
    return connection.execute(query.encode()).fetchall()[0][0]


def _check(expected: Mapping[str, Any], bucket: Path) -> None:
    """Check that every state exists, that database and lake agree, and that the whole day matches its objects."""
    for name, states in _STATES.items():
        there = {value for row in expected[name] for value in row if isinstance(value, str)}
        if missing := states - there:
            raise SystemExit(f"{name} has no {', '.join(sorted(missing))}: {expected[name]}")
    if empty := [name for name in _NOT_EMPTY if not expected[name]]:
        raise SystemExit(f"nothing in {', '.join(empty)}")
    in_lake = {day: (rows, Decimal(notional)) for day, rows, notional in expected["lake"]["fills"]}
    for day, rows, notional in expected["fills"]:
        if in_lake[day] != (rows, Decimal(notional)):
            raise SystemExit(f"{day}: the database has {rows} rows of {notional}, the lake {in_lake[day]}")
    # Read only that day, not all others.
    with TemporaryDirectory() as name:
        shutil.copytree(bucket / _BY_BLOCK / "20250901", Path(name) / _BY_BLOCK / "20250901")
        (Path(name) / _BY_BLOCK / "20250902").mkdir()
        shutil.copy(bucket / _BY_BLOCK / "20250902" / "0.lz4", Path(name) / _BY_BLOCK / "20250902")
        fills = [fill for _, _, fill in read_bucket(Path(name)) if event_day(fill) == _WHOLE]
    sums = len(fills), _add_notional(Decimal(0), ((Decimal(fill["px"]), Decimal(fill["sz"])) for fill in fills))
    if in_lake[str(_WHOLE)] != sums:
        raise SystemExit(f"{_WHOLE}: the lake has {in_lake[str(_WHOLE)]}, its objects {sums}")


def _dump(url: str, path: Path) -> None:
    done = subprocess.run([binary("pg_dump"), "--no-owner", url], capture_output=True, check=True)
    path.write_bytes(lzma.compress(done.stdout, preset=9 | lzma.PRESET_EXTREME))


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    main()
