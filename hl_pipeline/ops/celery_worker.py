"""The work of `hl worker`: a Celery worker that executes runs, says that it is alive, and ends when its runs have ended."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import celery
import psycopg
from celery import signals
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task

from hl_pipeline.events import emit
from hl_pipeline.ops.celery_launcher import CELERY_SETTINGS, QUEUE
from hl_pipeline.ops.code_version import CODE_TAG, identify_code
from hl_pipeline.ops.dagster_internals import ExecuteRunArgs, unpack_value
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError, connect
from hl_pipeline.warehouse.urls import build_url, parse_url
from hl_pipeline.warehouse.workers import BEAT_SECONDS, Order, beat_run, beat_worker, claim_run, end_run, leave

WORKER_TAG = "hl/worker"
"""The run tag with the name of the worker that executes the run."""
_log = logging.getLogger(__name__)
_REFUSED_SECONDS = 5.0
# A run that was told to stop may be busy with its end.
_AGAIN_SECONDS = 30.0
_BROKEN = (psycopg.Error, NoDatabaseError, OSError)


@dataclass(frozen=True, slots=True)
class Place:
    """The name of a worker, its code, how many runs it takes at once, and its database."""

    worker: str
    code: str
    slots: int
    database_url: str


def run_worker(settings: Settings, database_url: str, say: Callable[[str], None]) -> int:
    """Take runs until SIGTERM or Ctrl-C; then finish those in progress, and return the exit code. A second signal ends them."""
    # Before the pool is forked, so that no run has to load it. It loads neither polars nor Arrow, which start threads.
    import hl_pipeline.definitions  # noqa: F401  # pyright: ignore[reportUnusedImport]

    place = Place(
        f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}", identify_code(), settings.runs_at_once, _impatient(database_url)
    )
    app = _make_app(settings, place)
    _watch(place, say)
    worker = app.Worker(
        concurrency=place.slots,
        hostname=place.worker,
        queues=[QUEUE],
        pool="prefork",
        optimization="fair",
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    say(f"worker {place.worker}, code {place.code}: {place.slots} runs at once; Ctrl-C lets them end, and stops it")
    worker.start()
    return worker.exitcode or 0


def _make_app(settings: Settings, place: Place) -> celery.Celery:
    assert settings.broker_url is not None
    app = make_app({"broker": settings.broker_url.get_secret_value(), "config_source": CELERY_SETTINGS})

    class GuardedRun(celery.Task):
        """dagster-celery's task, for runs that are of this code and that nobody else executes."""

        abstract = True

        def __call__(self, execute_job_args_packed: Any) -> None:
            run_id = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs).run_id
            with DagsterInstance.get() as instance:
                run = instance.get_run_by_id(run_id)
                if run is None or run.status != DagsterRunStatus.STARTING:
                    emit(_log, "run_discarded", run_id=run_id, status=run and run.status.value)
                    return
                if run.tags.get(CODE_TAG) != place.code:
                    _refuse(instance, run, place)
                    self.apply_async(kwargs={"execute_job_args_packed": execute_job_args_packed}, queue=QUEUE)
                    return
                with _claimed(place, run_id) as is_ours:
                    if is_ours:
                        instance.add_run_tags(run_id, {WORKER_TAG: place.worker})
                        super().__call__(execute_job_args_packed)

    create_execute_job_task(app, base=GuardedRun)  # pyright: ignore[reportArgumentType] - its annotation is that of all options
    return app


def _refuse(instance: DagsterInstance, run: DagsterRun, place: Place) -> None:
    """Say in the run that this worker has other code. The run goes back to the broker, for another worker."""
    emit(_log, "run_refused", run_id=run.run_id, code=place.code, wanted=run.tags.get(CODE_TAG))
    instance.report_engine_event(
        f"Worker {place.worker} refused this run: its code is {place.code}, and the run was launched by "
        f"{run.tags.get(CODE_TAG)}. Install the same code on both. The run waits for another worker",
        run,
    )
    # Meanwhile another worker takes it.
    time.sleep(_REFUSED_SECONDS)


@contextmanager
def _claimed(place: Place, run_id: str) -> Generator[bool]:
    """Yield whether the run is ours. Until the block ends, it sends heartbeats."""
    with connect(place.database_url, "hl worker") as connection:
        if not claim_run(connection, run_id, place.worker):
            emit(_log, "run_discarded", run_id=run_id, status="another worker has it")
            yield False
            return
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(place, run_id, ended), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield True
    finally:
        ended.set()
        beats.join()


def _beat(place: Place, run_id: str, ended: threading.Event) -> None:
    """Send heartbeats until the run has ended. A run that must stop is interrupted, as by Ctrl-C."""
    stops_at = 0.0
    with _Session(place) as session:
        while not ended.wait(BEAT_SECONDS):
            order = session.do(lambda connection: beat_run(connection, run_id))
            if order in (Order.STOP, Order.LOST) and time.monotonic() >= stops_at:
                emit(_log, "run_interrupted", run_id=run_id, why=order.value)
                stops_at = time.monotonic() + _AGAIN_SECONDS
                os.kill(os.getpid(), signal.SIGINT)
        session.do(lambda connection: end_run(connection, run_id))


class _Session:
    """A connection for heartbeats, opened again when it breaks."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: psycopg.Connection | None = None

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def do(self, action: Callable[[psycopg.Connection], Any]) -> Any:
        """Return the result of `action`, or None if the database does not answer; the next heartbeat tries again."""
        try:
            if self._connection is None:
                self._connection = connect(self._place.database_url, "hl worker heartbeat")
            return action(self._connection)
        except _BROKEN as error:
            emit(_log, "heartbeat_failed", error=str(error).strip())
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            return None


def _watch(place: Place, say: Callable[[str], None]) -> None:
    """Make the worker send heartbeats while it takes runs, in its own loop: threads and the forks of the pool do not mix."""
    session = _Session(place)
    timers: list[Any] = []

    def beat() -> None:
        session.do(lambda connection: beat_worker(connection, place.worker, place.code, place.slots))

    def begin(sender: Any, **_: Any) -> None:
        # Again after each loss of the broker.
        for timer in timers:
            timer.cancel()
        timers[:] = [sender.timer.call_repeatedly(BEAT_SECONDS, beat)]
        beat()
        say("connected to the broker, waiting for runs")

    def end(**_: Any) -> None:
        for timer in timers:
            timer.cancel()
        session.do(lambda connection: leave(connection, place.worker))
        say("stopping: it takes no more runs, and waits for those in progress")

    def in_child(**_: Any) -> None:
        # Ctrl-C in the terminal is for the worker: its runs end by themselves.
        os.setpgid(0, 0)
        os.environ.pop("NOTIFY_SOCKET", None)

    for told, listener in (
        (signals.worker_ready, begin),
        (signals.worker_shutting_down, end),
        (signals.worker_process_init, in_child),
    ):
        told.connect(listener, weak=False)


def _impatient(url: str) -> str:
    """Return the URL with limits by which a heartbeat fails soon when the network is cut."""
    return build_url({"tcp_user_timeout": "8000", "keepalives_idle": "5", "keepalives_interval": "3", **parse_url(url)})


def log_to_terminal() -> None:
    """Show what Celery warns of, and the events of this module, on standard error. Dagster shows those of runs."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s worker: %(message)s"))
    # Messages are JSON, so they cannot run code; its advice is an option of Celery's own program.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    for name, level in (("celery", logging.WARNING), ("kombu", logging.WARNING), (__name__, logging.INFO)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
