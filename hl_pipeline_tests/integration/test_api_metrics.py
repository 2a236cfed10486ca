"""/metrics tells the state of the whole system: what was inserted, counted here by hand; after a restart; without a database."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import lz4.frame
import psycopg
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from prometheus_client.parser import text_string_to_metric_families

from api import system_metrics
from api.database import NEWEST_SCHEMA, read_sql, read_version
from api.installation import read_installation
from api.system_metrics import METRICS
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.migrate import migrate
from hl_pipeline.warehouse.urls import database_of, with_database
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.days import make_day
from hl_pipeline_tests.naive.fills import event_day, object_path, read_bucket
from hl_pipeline_tests.processes import PROJECT, wait_until
from hl_pipeline_tests.servers.api import Api, add, serving
from hl_pipeline_tests.servers.postgres import serve_postgres
from hl_pipeline_tests.unit.test_monitoring import promtool, read_metric_names

NOW = datetime.now(UTC)
DAY = date(2026, 3, 15)
_HOUR = timedelta(hours=1)
_NEWEST = NOW.replace(minute=0, second=0, microsecond=0) - 3 * _HOUR
"""When the newest object's hour begins."""
BY_BLOCK, TRADES, STATUSES = "node_fills_by_block", "node_trades", "twap_statuses"

Labels = tuple[str, ...]
Metrics = dict[str, dict[Labels, float]]


def scrape(api: Api) -> Metrics:
    """The samples by name and by the values of their labels, in the order of the labels' names."""
    response = api.ask("/metrics")
    assert response.status_code == 200, response.text
    found: Metrics = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def _object(source: str, begins: datetime, hour: int | None = -1, **values: Any) -> dict[str, Any]:
    place = {"object_date": begins.date(), "object_hour": begins.hour if hour == -1 else hour}
    return {"source": source, "object_key": f"{source}/{begins:%Y%m%d/%H}", **place, **values}


def _objects() -> list[dict[str, Any]]:
    """Of three datasets: fetched lately or long ago, loaded or not, failed, with bad lines, of an hour and of none."""
    old: dict[str, Any] = {"fetched_at": NOW - timedelta(days=40), "loaded_at": NOW - timedelta(days=39)}
    return [
        _object(BY_BLOCK, _NEWEST, rows=500, bad_lines=4, size_bytes=1000, fetched_at=NOW - _HOUR, loaded_at=NOW),
        # It has come, but is not loaded.
        _object(BY_BLOCK, _NEWEST + _HOUR, rows=70, bad_lines=1, size_bytes=90, fetched_at=NOW),
        _object(BY_BLOCK, _NEWEST + 2 * _HOUR, error="AccessDenied", error_at=NOW),
        _object(BY_BLOCK, _NEWEST - 800 * _HOUR, rows=9, bad_lines=3, size_bytes=8, **old),
        # An earlier form of it is loaded; the new one failed.
        _object(TRADES, _NEWEST - 900 * _HOUR, rows=2, bad_lines=0, size_bytes=7, error="InvalidObject", **old),
        _object(STATUSES, _NEWEST - 48 * _HOUR, None, rows=20, bad_lines=2, fetched_at=NOW - 2 * _HOUR, loaded_at=NOW),
    ]


def _hours() -> list[dict[str, Any]]:
    """Each state of an hour, several times, some acknowledged."""
    newest = {"object_date": _NEWEST.date(), "object_hour": _NEWEST.hour, "found": "present"}
    rows: list[dict[str, Any]] = [newest]
    day = _NEWEST.date() - timedelta(days=2)
    for number, found in enumerate(["present", "not due", "missing", "missing", "failed", "blocks missing"]):
        rows.append({"object_date": day, "object_hour": number, "found": found})
        rows.append({"object_date": day, "object_hour": number + 6, "found": found, "note": "known"})
    rows.append({"source": TRADES, "object_date": day, "object_hour": 1, "found": "unprovable"})
    rows.append({"source": TRADES, "object_date": day, "object_hour": 2, "found": "missing", "expected": False})
    return [*rows, {"source": STATUSES, "object_date": day, "object_hour": None, "found": "unprovable"}]


def _requests() -> list[tuple[datetime, str, int, str, str | None]]:
    """Time, method, bytes, dollars and error: of this month, of the one before, under way, failed."""
    last_month = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(seconds=1)
    return [
        (NOW, "LIST", 5_000, "0.0000047", None),
        (NOW, "GET", 40_000_000, "4.5600037", None),
        (NOW, "GET", 60, "0.1", "SlowDown"),
        (NOW, "GET", 7_000_000, "0.8", "not finished"),
        (last_month, "GET", 99_000_000, "11", None),
    ]


_WALLETS = {"pending": 3, "complete": 2, "truncated": 1, "failed": 1}
_FILLS_DAYS = [
    {"date": date(2026, 3, 1), "rows": 100, "state": "whole"},
    {"date": date(2026, 3, 2), "rows": 30, "state": "whole"},
    {"date": date(2026, 3, 3), "rows": 7, "state": "incomplete"},
    {"date": date(2026, 3, 4), "rows": 5, "state": None},
]
_TWAP_DAYS = [{"date": date(2026, 3, 1), "rows": 11}, {"date": date(2026, 3, 2), "rows": 2, "state": "pending"}]


def _insert(connection: psycopg.Connection) -> None:
    add(connection, "s3_ingest_log", *_objects())
    add(connection, "coverage", *_hours())
    add(connection, "fills_days", *_FILLS_DAYS)
    add(connection, "twap_days", *_TWAP_DAYS)
    connection.execute(
        "INSERT INTO hl.dirty_days (date, reason, noted_at) SELECT date, 'a reason', now() FROM hl.fills_days LIMIT 2"
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO hl.s3_requests (at, bucket, method, key, bytes, dollars, error) VALUES (%s, 'b', %s, 'k', %s, %s, %s)",
            _requests(),
        )
        wallets = [(f"0x{number:040x}", state) for state, count in _WALLETS.items() for number in _numbers(state, count)]
        cursor.executemany("INSERT INTO hl.backfill_progress (wallet, state, bad) VALUES (%s, %s, 2)", wallets)
        calls = [("home", 120, 50), ("home", 20, 30), ("home", 999, -1), ("office", 60, -5)]
        cursor.executemany(
            "INSERT INTO hl.info_calls (egress, weight, counts_until) VALUES (%s, %s, now() + make_interval(secs => %s))", calls
        )
        blocked = [("home", 600), ("office", -600)]
        cursor.executemany("INSERT INTO hl.info_egresses VALUES (%s, now() + make_interval(secs => %s))", blocked)


def _numbers(state: str, count: int) -> range:
    first = 1000 * [*_WALLETS].index(state)
    return range(first, first + count)


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    home: Path


@pytest.fixture(scope="module")
def place(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> _Place:
    """A database with all that, beside Dagster's own, and the home of its installation."""
    url, home = new_database(), tmp_path_factory.mktemp("home")
    (home / "lake").mkdir()
    with connect(url, "test") as connection:
        _insert(connection)
        connection.execute(f"CREATE DATABASE {database_of(url)}_dagster".encode())
    _make_runs(with_database(url, f"{database_of(url)}_dagster"), home)
    return _Place(url, home)


_RUNS = {"SUCCESS": 3, "FAILURE": 2, "STARTED": 1, "QUEUED": 2}


def _make_runs(url: str, home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HL_DAGSTER_DATABASE_URL", url)
        patch.setenv("HL_HOME", str(home))
        (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
        with DagsterInstance.from_config(str(home)) as instance:
            for status, count in _RUNS.items():
                for _ in range(count):
                    # One in the queue would need a code location.
                    first = "NOT_STARTED" if status == "QUEUED" else status
                    run = DagsterRun("job", str(uuid.uuid4()), status=DagsterRunStatus(first))
                    instance.run_storage.add_historical_run(run, NOW - timedelta(minutes=30))
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE runs SET status = 'QUEUED' WHERE status = 'NOT_STARTED'")
        connection.execute(
            "INSERT INTO daemon_heartbeats (daemon_type, daemon_id, timestamp, body) "
            "VALUES ('SENSOR', 'id', now() AT TIME ZONE 'UTC' - interval '90 seconds', '{}')"
        )
        # One failed now, the other long ago.
        connection.execute(
            "UPDATE runs SET end_time = extract(epoch FROM now()) - 86400 * 5 * (id - first) "
            "FROM (SELECT min(id) AS first FROM runs WHERE status = 'FAILURE') f WHERE status = 'FAILURE'"
        )


@pytest.fixture(scope="module")
def variables(place: _Place) -> dict[str, str]:
    return {"HL_HOME": str(place.home), "HL_S3_BUDGET_USD": "12.5", "HL_INFO_WEIGHT_PER_MINUTE": "1200"}


@pytest.fixture(scope="module")
def api(place: _Place, variables: dict[str, str]) -> Generator[Api]:
    with serving(place.url, **variables) as api:
        yield api


@pytest.fixture(scope="module")
def metrics(api: Api) -> Metrics:
    # A request is counted once it has been answered.
    api.get("/")
    return scrape(api)


def _sum(source: str, name: str, *, lately: bool = False) -> int:
    rows = [row for row in _objects() if row["source"] == source]
    if lately:
        rows = [row for row in rows if row.get("fetched_at", NOW - timedelta(9)) > NOW - timedelta(days=1)]
    return sum(row.get(name) or 0 for row in rows)


@pytest.mark.slow
def test_objects_are_counted_by_dataset_with_their_rows_and_bad_lines(metrics: Metrics) -> None:
    for metric, column in (("fetched", "fetched_at"), ("loaded", "loaded_at"), ("failed", "error")):
        expected = Counter(row["source"] for row in _objects() if row.get(column) is not None)
        found = {source: count for (source,), count in metrics[f"hl_objects_{metric}"].items() if count}
        assert found == expected
    for source in (BY_BLOCK, TRADES, STATUSES):
        key = (source,)
        assert metrics["hl_objects_rows"][key] == _sum(source, "rows")
        assert metrics["hl_quarantined_lines"][key] == _sum(source, "bad_lines")
        assert metrics["hl_last_day_rows"][key] == _sum(source, "rows", lately=True)
        assert metrics["hl_last_day_quarantined_lines"][key] == _sum(source, "bad_lines", lately=True)
    # The size of an object without one is not known to be 0.
    assert metrics["hl_objects_size_bytes"] == {(source,): _sum(source, "size_bytes") for source in (BY_BLOCK, TRADES)}


def test_the_lag_is_that_of_the_newest_hour_that_is_loaded_or_whole(metrics: Metrics) -> None:
    since = time.time() - (_NEWEST + _HOUR).timestamp()
    assert metrics["hl_newest_loaded_hour_lag_seconds"][(BY_BLOCK,)] == pytest.approx(since, abs=60)
    whole = metrics["hl_newest_whole_hour_lag_seconds"]
    assert whole[(BY_BLOCK,)] == pytest.approx(since, abs=60)
    day = datetime.combine(_NEWEST.date() - timedelta(days=2), datetime.min.time(), UTC)
    ends = {TRADES: day + 2 * _HOUR, STATUSES: day + 24 * _HOUR}
    for source, end in ends.items():
        assert whole[(source,)] == pytest.approx(time.time() - end.timestamp(), abs=60)


def test_hours_are_counted_by_state_and_holes_by_cause(metrics: Metrics) -> None:
    def is_hole(row: dict[str, Any]) -> bool:
        return row["found"] in ("failed", "blocks missing") or (row["found"] == "missing" and row.get("expected", True))

    rows = [{"source": BY_BLOCK, **row} for row in _hours()]
    states = Counter((row["source"], "acknowledged" if is_hole(row) and "note" in row else row["found"]) for row in rows)
    assert metrics["hl_hour_states"] == states
    holes = Counter((row["found"], row["source"]) for row in rows if is_hole(row) and "note" not in row)
    assert metrics["hl_holes"] == {
        (cause, source): holes[cause, source]
        for cause in ("missing", "failed", "blocks missing")
        for source in (BY_BLOCK, TRADES, STATUSES)
    }
    assert metrics["hl_acknowledged_holes"] == {(BY_BLOCK,): 4, (TRADES,): 0, (STATUSES,): 0}


def test_days_are_counted_by_verdict_and_fills_over_all_days(metrics: Metrics) -> None:
    verdicts = metrics["hl_day_verdicts"]
    expected = Counter(("fills", row["state"] or "not judged") for row in _FILLS_DAYS)
    expected += Counter((STATUSES, row.get("state", "unprovable")) for row in _TWAP_DAYS)
    assert {labels: count for labels, count in verdicts.items() if count} == expected
    assert verdicts["fills", "pending"] == verdicts[STATUSES, "incomplete"] == 0
    assert metrics["hl_fills"] == {(): sum(row["rows"] for row in _FILLS_DAYS)}
    assert metrics["hl_newest_day_fills"] == {(): 5}
    assert metrics["hl_twap_status_events"] == {(): 13}
    assert metrics["hl_reloads_due"] == {(): 2}


def test_money_is_that_of_this_month_against_the_budget(metrics: Metrics) -> None:
    this_month = _requests()[:4]
    assert metrics["hl_s3_month_requests"] == {(): len(this_month)}
    assert metrics["hl_s3_month_failed_requests"] == {(): 1}
    assert metrics["hl_s3_month_received_bytes"] == {(): sum(size for _, _, size, _, error in this_month[:3])}
    assert metrics["hl_s3_month_spent_dollars"][()] == pytest.approx(sum(float(row[3]) for row in this_month))
    assert metrics["hl_s3_budget_dollars"] == {(): 12.5}


def test_wallets_and_the_weight_of_the_info_api_are_counted(metrics: Metrics) -> None:
    assert metrics["hl_backfill_wallets"] == {(state,): count for state, count in {**_WALLETS, "started": 0}.items()}
    assert metrics["hl_backfill_quarantined_items"] == {(): 2 * sum(_WALLETS.values())}
    assert metrics["hl_info_weight_last_minute"] == {("home",): 140, ("office",): 0}
    assert metrics["hl_info_weight_limit"] == {(): 1200}
    assert metrics["hl_info_blocked_seconds"]["home",] == pytest.approx(600, abs=60)
    assert metrics["hl_info_blocked_seconds"]["office",] == 0


def test_runs_and_the_queue_are_those_of_dagsters_own_storage(metrics: Metrics) -> None:
    assert metrics["hl_runs"] == {(status,): count for status, count in _RUNS.items()}
    assert metrics["hl_runs_queued"] == {(): _RUNS["QUEUED"]}
    assert metrics["hl_last_day_failed_runs"] == {(): 1}
    assert metrics["hl_oldest_queued_run_seconds"][()] == pytest.approx(time.time() - NOW.timestamp() + 1800, abs=60)
    assert metrics["hl_daemon_heartbeat_age_seconds"]["SENSOR",] == pytest.approx(90, abs=60)


def test_the_schema_the_version_and_the_disks_are_told(metrics: Metrics, place: _Place) -> None:
    assert metrics["hl_schema_version"] == {(): int(NEWEST_SCHEMA)}
    assert metrics["hl_build_info"] == {(read_version(),): 1}
    with connect(place.url, "test") as connection:
        [(size,)] = connection.execute("SELECT pg_database_size(current_database())").fetchall()
    assert metrics["hl_database_size_bytes"][()] == pytest.approx(size, rel=0.1)
    # No embedded database has been made in this home.
    assert set(metrics["hl_disk_free_bytes"]) == set(metrics["hl_disk_size_bytes"]) == {("lake",)}
    assert 0 < metrics["hl_disk_free_bytes"]["lake",] <= metrics["hl_disk_size_bytes"]["lake",]


def test_each_metric_is_there_with_its_type_and_help(metrics: Metrics, api: Api) -> None:
    assert set(METRICS) <= set(metrics)
    text = api.ask("/metrics").text
    for name, metric in METRICS.items():
        assert f"# HELP {name} {metric.help}\n# TYPE {name} gauge\n" in text
    assert metrics["hl_metrics_readable"] == {(group,): 1 for group in system_metrics.GROUPS}


def test_each_metric_of_the_rules_and_dashboards_exists(metrics: Metrics) -> None:
    named = read_metric_names()
    assert len(named) > 40
    assert named - set(metrics) == set()


@pytest.mark.slow
def test_prometheus_finds_nothing_wrong_of_a_scrape(api: Api) -> None:
    done = promtool("check", "metrics", given=api.ask("/metrics").text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_after_a_restart_the_values_are_the_same(metrics: Metrics, place: _Place, variables: dict[str, str]) -> None:
    with serving(place.url, **variables) as restarted:
        again = scrape(restarted)
    moving = re.compile(r"_seconds$|_free_bytes$|_size_bytes$")
    for name in (name for name in METRICS if not moving.search(name)):
        assert again[name] == metrics[name], name


def test_scrapes_within_some_seconds_share_one_reading(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_database()
    with serving(url) as api, connect(url, "test") as connection:
        monkeypatch.setattr(system_metrics, "KEEP_SECONDS", 600.0)
        assert scrape(api)["hl_fills"] == {(): 0}
        add(connection, "fills_days", {"date": "2026-03-01", "rows": 4})
        assert scrape(api)["hl_fills"] == {(): 0}
    with serving(url) as api, connect(url, "test") as connection:
        monkeypatch.setattr(system_metrics, "KEEP_SECONDS", 0.0)
        monkeypatch.setattr(system_metrics, "_MOST_SHARE", float("inf"))
        assert scrape(api)["hl_fills"] == {(): 4}
        add(connection, "fills_days", {"date": "2026-03-02", "rows": 5})
        assert scrape(api)["hl_fills"] == {(): 9}


def test_what_cannot_be_read_is_left_out_and_the_log_tells_why_once(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_database()
    monkeypatch.setattr(system_metrics, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(system_metrics, "_MOST_SHARE", float("inf"))
    monkeypatch.setattr(system_metrics, "_LIMIT_SECONDS", 1.5)
    with serving(url) as api, connect(url, "test") as connection, caplog.at_level(logging.WARNING, "api.system_metrics"):
        first = scrape(api)
        readable = first["hl_metrics_readable"]
        assert readable == {(group,): float(group != "runs") for group in system_metrics.GROUPS}
        absent = {"hl_runs", "hl_runs_queued", "hl_s3_budget_dollars", "hl_info_weight_limit", "hl_disk_free_bytes"}
        assert absent & set(first) == set()
        connection.execute("DROP TABLE hl.dirty_days")
        assert scrape(api).keys() == scrape(api).keys()
        second = scrape(api)
        assert second["hl_metrics_readable"]["days",] == 0
        assert ("hl_fills" in second, "hl_holes" in second, "hl_backfill_wallets" in second) == (False, False, True)
        messages = [record.getMessage() for record in caplog.records]
        assert sum('relation "hl.dirty_days" does not exist' in message for message in messages) == 1
        assert sum('_dagster" does not exist' in message for message in messages) == 1
        with connection.transaction():
            # A query that waits ends in time, and costs the groups after it their turn, not the answer.
            connection.execute("LOCK TABLE hl.s3_requests")
            began = time.monotonic()
            third = scrape(api)
            assert time.monotonic() - began < 4
        assert (third["hl_metrics_readable"]["objects",], third["hl_metrics_readable"]["money",]) == (1, 0)
        assert "hl_s3_month_spent_dollars" not in third
        assert third["hl_api_database_up"] == {(): 1}


def test_a_user_of_the_role_alone_reads_all_but_dagsters_runs(place: _Place) -> None:
    user = f"scraper_{uuid.uuid4().hex[:8]}"
    with connect(place.url, "test") as connection:
        connection.execute(f"CREATE ROLE {user} LOGIN IN ROLE hl_reader".encode())
        try:
            with serving(place.url.replace("//postgres:", f"//{user}:")) as api:
                readable = scrape(api)["hl_metrics_readable"]
            assert readable == {(group,): float(group != "runs") for group in system_metrics.GROUPS}
        finally:
            connection.execute(f"DROP ROLE {user}".encode())


@pytest.mark.slow
def test_while_the_database_is_down_its_own_metrics_are_still_served(variables: dict[str, str]) -> None:
    with serve_postgres() as server:
        migrate(server.url())
        with serving(server.url(), HL_API_POOL_TIMEOUT_SECONDS="0.5", **variables) as api:
            assert scrape(api)["hl_fills"] == {(): 0}
            server.stop("fast")
            away = scrape(api)
            # Nothing of before is repeated.
            assert away["hl_api_database_up"] == {(): 0}
            known = {"hl_build_info", "hl_s3_budget_dollars", "hl_info_weight_limit", "hl_disk_free_bytes", "hl_disk_size_bytes"}
            assert set(METRICS) & set(away) == known
            assert away["hl_api_requests_total"]["GET", "/metrics", "200"] >= 1
            server.start()
            wait_until(lambda: scrape(api).get("hl_fills") == {(): 0}, 30, "the system's metrics are back")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HL_S3_BUDGET_USD", "much", "Input should be a valid decimal"),
        ("HL_DAGSTER_DATABASE_URL", "postgresql://u:sec%ret@h/d", "Value error, is not a PostgreSQL URL"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=f"^hl api: {variable} {said}") as ended:
        read_installation()
    assert "sec%ret" not in str(ended.value)


@pytest.mark.slow
def test_a_loaded_sample_has_the_figures_of_its_bucket(world: World, tmp_path: Path) -> None:
    """A day with a missing object, one that is cut off, and a line that is no JSON."""
    bucket = write_sample(tmp_path / "sample", first_day=DAY, fills_per_hour=30).node_data_dir
    start = datetime.combine(DAY, datetime.min.time(), UTC)
    object_path(bucket, start + 3 * _HOUR).unlink()
    bad = object_path(bucket, start + 7 * _HOUR)
    content = lz4.frame.decompress(bad.read_bytes())
    cut = object_path(bucket, start + 5 * _HOUR)
    whole = cut.read_bytes()
    cut.unlink()
    # What is left can be had; the truth is read before the rest is spoilt.
    fills = [fill for _, _, fill in read_bucket(bucket) if event_day(fill) == DAY]
    sizes = [
        path.stat().st_size for path in bucket.rglob("*.lz4") if path != bad and path.parent.name in ("20260315", "20260316")
    ]
    bad.write_bytes(lz4.frame.compress(content + b"no JSON\n"))
    cut.write_bytes(whole[:-100])

    make_day({**world.environment, "HL_NODE_DATA_URL": str(bucket)}, DAY)

    with serving(world.database_url) as api:
        metrics = scrape(api)
    assert metrics["hl_fills"] == metrics["hl_newest_day_fills"] == {(): len(fills)}
    assert metrics["hl_objects_fetched"][BY_BLOCK,] == metrics["hl_objects_loaded"][BY_BLOCK,] == len(sizes) + 1 == 23
    assert metrics["hl_objects_failed"][BY_BLOCK,] == 1
    assert metrics["hl_objects_size_bytes"][BY_BLOCK,] == sum(sizes) + bad.stat().st_size
    assert metrics["hl_quarantined_lines"][BY_BLOCK,] == metrics["hl_last_day_quarantined_lines"][BY_BLOCK,] == 1
    assert metrics["hl_holes"]["missing", BY_BLOCK] == metrics["hl_holes"]["failed", BY_BLOCK] == 1
    assert metrics["hl_day_verdicts"]["fills", "incomplete"] == 1
    # The object of the first hour of the day after has this day's last fills.
    ends = start + 25 * _HOUR
    for name in ("hl_newest_loaded_hour_lag_seconds", "hl_newest_whole_hour_lag_seconds"):
        assert metrics[name][BY_BLOCK,] == pytest.approx(time.time() - ends.timestamp(), abs=60)


def test_the_last_ingested_object_is_found_by_an_index_and_is_the_last(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        objects = [
            {"object_key": "fetched later", "fetched_at": NOW},
            {"object_key": "loaded first", "fetched_at": NOW - 4 * _HOUR, "loaded_at": NOW - 3 * _HOUR},
            {"object_key": "loaded last", "fetched_at": NOW - 5 * _HOUR, "loaded_at": NOW - 2 * _HOUR},
            {"object_key": "failed", "error": "gone"},
        ]
        at = {"object_date": DAY, "object_hour": 0}
        add(connection, "s3_ingest_log", *({"object_id": 3_000_000 + i, **at, **one} for i, one in enumerate(objects)))
        query = read_sql("last_ingested")
        # A table of four rows is read at once, whatever its indexes are.
        connection.execute("SET enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(b"EXPLAIN " + query).fetchall())
        assert "Index Scan using s3_ingest_log_last" in plan
        assert "Sort" not in plan
        found = connection.execute(query).fetchone()
        assert found is not None
        assert found[:2] == ("loaded last", NOW - 2 * _HOUR)
        connection.execute("UPDATE hl.s3_ingest_log SET loaded_at = NULL")
        found = connection.execute(query).fetchone()
        assert found is not None
        assert found[0] == "fetched later"
