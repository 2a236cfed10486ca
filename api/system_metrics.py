"""The metrics of the whole system, by queries at the time of a scrape: what is loaded, what is missing, what it has cost.

They need no memory of their own, so they are the same after a restart. What cannot be read is left out, never reported as 0.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from psycopg import AsyncConnection

from api.database import Pool, read_sql, read_version
from api.installation import Installation

_log = logging.getLogger(__name__)
KEEP_SECONDS = 10.0
"""Scrapes within this time share one reading."""
_LIMIT_SECONDS = 5.0
"""A reading takes no longer; the groups of metrics that come too late are left out. Prometheus gives up after ten seconds."""
_MOST_SHARE = 0.1
"""A slow reading is kept for longer, so that no more than this share of the time is spent on them."""
_SET_TIMEOUT = "SELECT pg_catalog.set_config('statement_timeout', %s, true)"
_RUNS = "runs"
_OF_DATA = ("objects", "money", "days", "coverage", "backfill", "database")
GROUPS = (*_OF_DATA, _RUNS)
_QUERIES = {group: read_sql(f"system_metrics_{group}") for group in GROUPS}


@dataclass(frozen=True, slots=True)
class SystemMetric:
    """A gauge: what it measures, and the names of its labels."""

    help: str
    labels: tuple[str, ...] = ()


_DATASET = ("dataset",)
METRICS: dict[str, SystemMetric] = {
    "hl_build_info": SystemMetric("Always 1; the label is the installed version", ("version",)),
    "hl_metrics_readable": SystemMetric("1 if this group of metrics could be read; 0: its metrics are left out", ("group",)),
    "hl_metrics_read_seconds": SystemMetric("Seconds that the last reading of these metrics took"),
    "hl_objects_fetched": SystemMetric("Source objects in the lake", _DATASET),
    "hl_objects_loaded": SystemMetric("Source objects whose rows are in PostgreSQL", _DATASET),
    "hl_objects_failed": SystemMetric(
        "Source objects that could not be fetched or loaded; the error is not mended yet", _DATASET
    ),
    "hl_objects_size_bytes": SystemMetric("Size of the source objects as downloaded", _DATASET),
    "hl_objects_rows": SystemMetric("Rows read from the source objects", _DATASET),
    "hl_quarantined_lines": SystemMetric("Lines of the source objects that could not be read and are kept beside them", _DATASET),
    "hl_last_day_rows": SystemMetric("Rows of the objects fetched in the last 24 hours", _DATASET),
    "hl_last_day_quarantined_lines": SystemMetric("Quarantined lines of the objects fetched in the last 24 hours", _DATASET),
    "hl_newest_loaded_hour_lag_seconds": SystemMetric("Seconds since the end of the newest hour in PostgreSQL", _DATASET),
    "hl_newest_whole_hour_lag_seconds": SystemMetric(
        "Seconds since the end of the newest hour whose object is there with nothing known to be missing", _DATASET
    ),
    "hl_hour_states": SystemMetric("Hours of the source by their state in hl.coverage", ("dataset", "state")),
    "hl_holes": SystemMetric("Hours with missing data that is due and that nobody has acknowledged", ("dataset", "cause")),
    "hl_acknowledged_holes": SystemMetric("Hours with missing data that somebody has acknowledged", _DATASET),
    "hl_day_verdicts": SystemMetric("Loaded days by the verdict on their completeness", ("dataset", "verdict")),
    "hl_fills": SystemMetric("Fills of all loaded days, each counted once"),
    "hl_newest_day_fills": SystemMetric("Fills of the newest loaded day"),
    "hl_twap_status_events": SystemMetric("TWAP events of all loaded days"),
    "hl_reloads_due": SystemMetric("Loaded days that must be loaded again"),
    "hl_s3_month_requests": SystemMetric("Requests to S3 in this UTC month"),
    "hl_s3_month_failed_requests": SystemMetric("Requests to S3 in this UTC month that ended with an error"),
    "hl_s3_month_received_bytes": SystemMetric("Bytes received from S3 in this UTC month"),
    "hl_s3_month_spent_dollars": SystemMetric(
        "US dollars spent on S3 in this UTC month; a request under way counts with the most it can cost"
    ),
    "hl_s3_budget_dollars": SystemMetric("HL_S3_BUDGET_USD, the most that may be spent on S3 in a UTC month"),
    "hl_backfill_wallets": SystemMetric("Wallets of the backfill by state", ("state",)),
    "hl_backfill_quarantined_items": SystemMetric("Items of the info API that could not be read and are kept"),
    "hl_info_weight_last_minute": SystemMetric(
        "Weight of the info API calls of the last minute; a call under way counts with the most it can weigh", ("egress",)
    ),
    "hl_info_weight_limit": SystemMetric("HL_INFO_WEIGHT_PER_MINUTE, the most weight that one address uses per minute"),
    "hl_info_blocked_seconds": SystemMetric("Seconds for which the info API has told this address to wait", ("egress",)),
    "hl_runs": SystemMetric("Dagster runs by status, as far as they are still kept", ("status",)),
    "hl_runs_queued": SystemMetric("Dagster runs that wait in the queue"),
    "hl_oldest_queued_run_seconds": SystemMetric("Seconds since the oldest run in the queue was created"),
    "hl_last_day_failed_runs": SystemMetric("Dagster runs that failed in the last 24 hours"),
    "hl_daemon_heartbeat_age_seconds": SystemMetric(
        "Seconds since the last sign of life of each part of the daemon", ("daemon",)
    ),
    "hl_schema_version": SystemMetric("Number of the newest migration of the database"),
    "hl_database_size_bytes": SystemMetric("Size of the database on disk"),
    "hl_disk_free_bytes": SystemMetric("Free bytes where the lake or the embedded database is", ("what",)),
    "hl_disk_size_bytes": SystemMetric("Total bytes where the lake or the embedded database is", ("what",)),
}

Sample = tuple[str, list[str], float]
"""A metric's name, the values of its labels in their order, its value."""


class SystemMetrics(Collector):
    """What was last read, for Prometheus' registry. `url` is the data's database."""

    def __init__(self, installation: Installation, url: str) -> None:
        self._installation = installation
        self._dagster = installation.find_dagster(url)
        self._samples: list[Sample] = []
        self._errors: dict[str, str] = {}
        self._fresh_until = 0.0
        self._turn = asyncio.Lock()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = {name: GaugeMetricFamily(name, metric.help, labels=metric.labels) for name, metric in METRICS.items()}
        for name, labels, value in self._samples:
            families[name].add_metric(labels, value)
        return [family for family in families.values() if family.samples]

    async def refresh(self, pool: Pool | None) -> None:
        """Read everything again unless that was done a moment ago. Without a pool, only what is known without the database."""
        async with self._turn:
            started = time.monotonic()
            if pool is None:
                self._samples, self._fresh_until = await self._read_known(), 0.0
            elif started >= self._fresh_until:
                read = await self._read_database(pool, started + _LIMIT_SECONDS)
                took = time.monotonic() - started
                self._samples = [*await self._read_known(), *read, ("hl_metrics_read_seconds", [], took)]
                self._fresh_until = started + max(KEEP_SECONDS, took / _MOST_SHARE)

    async def _read_known(self) -> list[Sample]:
        samples: list[Sample] = [("hl_build_info", [read_version()], 1)]
        if (budget := self._installation.s3_budget_usd) is not None:
            samples.append(("hl_s3_budget_dollars", [], float(budget)))
        if (limit := self._installation.info_weight_per_minute) is not None:
            samples.append(("hl_info_weight_limit", [], limit))
        return samples + await asyncio.to_thread(_measure_disks, self._installation)

    async def _read_database(self, pool: Pool, deadline: float) -> list[Sample]:
        samples: list[Sample] = []
        try:
            # All groups are of one moment.
            async with pool.connection() as connection:
                for group in _OF_DATA:
                    samples += await self._read_group(group, connection, deadline)
        except psycopg.Error as error:
            self._note("all but runs", error)
        return samples + await self._read_runs(deadline)

    async def _read_runs(self, deadline: float) -> list[Sample]:
        """Of Dagster's database. Whether this user may read it is not known before."""
        try:
            async with (
                asyncio.timeout(max(deadline - time.monotonic(), 0.1)),
                await AsyncConnection.connect(self._dagster, application_name="hl api metrics") as connection,
            ):
                await connection.set_read_only(True)
                return await self._read_group(_RUNS, connection, deadline)
        except (psycopg.Error, TimeoutError) as error:
            return self._leave_out(_RUNS, error)

    async def _read_group(self, group: str, connection: AsyncConnection, deadline: float) -> list[Sample]:
        left_ms = round((deadline - time.monotonic()) * 1000)
        if left_ms <= 0:
            return self._leave_out(group, TimeoutError("the groups before took too long"))
        try:
            # One that fails leaves the others their transaction.
            async with connection.transaction():
                await connection.execute(_SET_TIMEOUT, [str(left_ms)])
                rows = await (await connection.execute(_QUERIES[group])).fetchall()
        except psycopg.Error as error:
            return self._leave_out(group, error)
        self._errors.pop(group, None)
        return [*((name, labels, value) for name, labels, value in rows), ("hl_metrics_readable", [group], 1)]

    def _leave_out(self, group: str, error: Exception) -> list[Sample]:
        self._note(group, error)
        return [("hl_metrics_readable", [group], 0)]

    def _note(self, group: str, error: Exception) -> None:
        """Log why, but not at every scrape."""
        text = " ".join(str(error).split()) or "no answer in time"
        if self._errors.get(group) != text:
            self._errors[group] = text
            _log.warning("metrics of the group %s are left out: %s", group, text)


def _measure_disks(installation: Installation) -> list[Sample]:
    """Of the directories that are known and there."""
    samples: list[Sample] = []
    for what, path in installation.directories.items():
        try:
            usage = shutil.disk_usage(path)
        except OSError:
            continue
        samples += [("hl_disk_free_bytes", [what], usage.free), ("hl_disk_size_bytes", [what], usage.total)]
    return samples
