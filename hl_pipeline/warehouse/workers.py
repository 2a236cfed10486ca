"""hl.workers and hl.worker_runs: which workers are there, and which runs they execute. All times are of the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import psycopg

BEAT_SECONDS = 3.0
"""The interval of heartbeats."""
SILENT_SECONDS = 20
"""A worker or run without a heartbeat for so long is presumed dead."""

_BEAT_WORKER = """
INSERT INTO hl.workers (worker, code, slots) VALUES (%s, %s, %s)
ON CONFLICT (worker) DO UPDATE SET code = EXCLUDED.code, slots = EXCLUDED.slots, beat_at = clock_timestamp()
"""
_LEAVE = "DELETE FROM hl.workers WHERE worker = %s"
_FORGET = "DELETE FROM hl.workers WHERE beat_at < clock_timestamp() - interval '1 day'"
# The runs of a worker that ends, or is presumed dead, are in progress too: without them, its runs would take slots of others.
_SLOTS = """
WITH live AS (SELECT worker, slots, code FROM hl.workers WHERE beat_at > clock_timestamp() - make_interval(secs => %(silent)s))
SELECT coalesce((SELECT sum(slots) FROM live WHERE code = %(code)s), 0)
    + (SELECT count(*) FROM hl.worker_runs r WHERE NOT EXISTS (SELECT FROM live WHERE live.worker = r.worker AND code = %(code)s))
"""
_CLAIM = "INSERT INTO hl.worker_runs (run_id, worker) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_BEAT_RUN = "UPDATE hl.worker_runs SET beat_at = clock_timestamp() WHERE run_id = %s RETURNING must_stop"
_END = "DELETE FROM hl.worker_runs WHERE run_id = %s"
_ASK_TO_STOP = "UPDATE hl.worker_runs SET must_stop = true WHERE run_id = %s"
_READ_RUN = "SELECT worker, extract(epoch FROM clock_timestamp() - beat_at)::float FROM hl.worker_runs WHERE run_id = %s"
_READ_WORKERS = """
SELECT worker, code, slots, extract(epoch FROM clock_timestamp() - beat_at)::float,
    (SELECT count(*) FROM hl.worker_runs r WHERE r.worker = w.worker)
FROM hl.workers w ORDER BY worker
"""


class Order(Enum):
    """What a run learns from its heartbeat."""

    GO_ON = "go on"
    STOP = "stop"
    """A user terminates it."""
    LOST = "lost"
    """It was presumed dead, and may be in progress elsewhere."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker, the version of its code, and its number of runs. `silent_seconds`: the time since its last heartbeat."""

    worker: str
    code: str
    slots: int
    silent_seconds: float
    runs: int

    @property
    def is_silent(self) -> bool:
        return self.silent_seconds > SILENT_SECONDS


def beat_worker(connection: psycopg.Connection, worker: str, code: str, slots: int) -> None:
    """Note that a worker is there and takes runs. Forget those that were silent for a day."""
    connection.execute(_BEAT_WORKER, [worker, code, slots])
    connection.execute(_FORGET)


def leave(connection: psycopg.Connection, worker: str) -> None:
    """Note that a worker takes no more runs."""
    connection.execute(_LEAVE, [worker])


def count_slots(connection: psycopg.Connection, code: str) -> int:
    """Return how many runs may be in progress: the slots of live workers with this code, and the runs of all other workers."""
    row = connection.execute(_SLOTS, {"silent": SILENT_SECONDS, "code": code}).fetchone()
    assert row is not None
    return int(row[0])


def read_workers(connection: psycopg.Connection) -> list[Worker]:
    """Return all known workers by name."""
    return [Worker(*row) for row in connection.execute(_READ_WORKERS)]


def claim_run(connection: psycopg.Connection, run_id: str, worker: str) -> bool:
    """Take a run for a worker. Returns False if a worker has it already."""
    return connection.execute(_CLAIM, [run_id, worker]).rowcount == 1


def beat_run(connection: psycopg.Connection, run_id: str) -> Order:
    """Note that a run is alive, and return what it must do."""
    row = connection.execute(_BEAT_RUN, [run_id]).fetchone()
    if row is None:
        return Order.LOST
    return Order.STOP if row[0] else Order.GO_ON


def end_run(connection: psycopg.Connection, run_id: str) -> None:
    """Remove a run that has ended, or that is presumed dead."""
    connection.execute(_END, [run_id])


def ask_to_stop(connection: psycopg.Connection, run_id: str) -> bool:
    """Make a run stop at its next heartbeat. Returns False if no worker has it."""
    return connection.execute(_ASK_TO_STOP, [run_id]).rowcount == 1


def read_run(connection: psycopg.Connection, run_id: str) -> tuple[str, float] | None:
    """Return the worker of a run and the seconds since its last heartbeat, or None if no worker has it."""
    return connection.execute(_READ_RUN, [run_id]).fetchone()
