"""Private parts of Dagster that we use, each with the reason. No other module imports `dagster._*` or `dagster_shared`.

An upgrade may move or change any of them; `unit/test_dagster_internals.py` then fails. No other logic belongs here.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import psycopg2
from dagster import DagsterInstance, JobDefinition, JobExecutionResult

# Wraps a loaded job for `execute_run`, which would otherwise load it again.
from dagster._core.definitions.job_base import InMemoryJob

# The repository name of a code location with one `Definitions`, in the webserver's GraphQL.
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME

# The type that `define_asset_job` returns and that sensors and schedules take; the public API has no name for it.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Ctrl-C in a step: its class appears in the failure's chain of errors, which distinguishes an interruption from a failure. The
# second class is raised by a code server that does not answer.
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterUserCodeUnreachableError

# Executes an existing run in this process. Runs of the public `execute_in_process` have no code location, so the UI does not show
# them on the timeline or with their job.
from dagster._core.execution.api import execute_run

# Parameter and result types of a launcher. Dagster's documentation of custom launchers names them, `dagster` does not export
# them.
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus

# The origin of a run's code location.
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin

# Tags used by the default launcher and by the daemon's retries.
from dagster._core.storage.tags import GRPC_INFO_TAG, MAX_RETRIES_TAG, RETRY_ON_ASSET_OR_OP_FAILURE_TAG

# The way a code location is loaded, which is part of its origin.
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# Only the code server knows whether a run that it started is still alive, and there is no public client for it (below). The
# other is what a launcher sends to a worker, as text.
from dagster._grpc.types import ExecuteRunArgs, GetCurrentRunsResult

# The type of `inst_data`, which Dagster passes to every class in dagster.yaml; reads what a launcher sends.
from dagster._serdes import ConfigurableClassData, unpack_value

# The storages' function that creates an engine, which `hold_connections` replaces.
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine

# The type of a step failure's error, with its cause and context.
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from hl_pipeline.events import common_fields

if TYPE_CHECKING:
    from dagster._grpc.client import DagsterGrpcClient

_IDLE_SECONDS = 10.0

__all__ = [
    "GRPC_INFO_TAG",
    "MAX_RETRIES_TAG",
    "RETRY_ON_ASSET_OR_OP_FAILURE_TAG",
    "SINGLETON_REPOSITORY_NAME",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "DagsterExecutionInterruptedError",
    "DagsterGrpcClient",
    "DagsterUserCodeUnreachableError",
    "ExecuteRunArgs",
    "GetCurrentRunsResult",
    "LaunchRunContext",
    "SerializableErrorInfo",
    "UnresolvedAssetJobDefinition",
    "WorkerStatus",
    "hold_connections",
    "run_job",
    "unpack_value",
]


def __getattr__(name: str) -> Any:
    """Import DagsterGrpcClient on first use: it imports gRPC, which a run in this process does not need."""
    if name != "DagsterGrpcClient":
        raise AttributeError(name)
    from dagster._grpc.client import DagsterGrpcClient

    return DagsterGrpcClient


def run_job(
    job: JobDefinition,
    partition: str,
    instance: DagsterInstance,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    module: str,
    location: str,
) -> JobExecutionResult:
    """Run a partition of `job` in this process. The UI shows it as a run of the code location `location`, from `module`."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=module)
    origin = RemoteRepositoryOrigin(ManagedGrpcPythonEnvCodeLocationOrigin(target, location), SINGLETON_REPOSITORY_NAME)
    of_partition = job.get_tags_for_partition_key(partition, selected_asset_keys=None)
    run = instance.create_run_for_job(
        job_def=job,
        run_config=run_config,
        tags={**job.run_tags, **of_partition, **tags},
        remote_job_origin=origin.get_job_origin(job.name),
    )
    with common_fields(run_id=run.run_id, partition=partition):
        return execute_run(InMemoryJob(job), run, instance)


def hold_connections(storage: DagsterPostgresStorage) -> None:
    """Make the parts of `storage` share one pool with at most two idle connections, until the instance is disposed of.

    By default, dagster-postgres opens a connection for every event: 300 for a run of one day, 4 ms each. For each event of an
    asset it also queries tables and columns again: 70 queries for a run of one day.
    """
    engine = create_pg_engine(storage.postgres_url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1)
    event.listen(engine, "connect", _set_utc)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _refuse_ended)
    for part in (storage.run_storage, storage.event_log_storage, storage.schedule_storage):
        part._engine = engine  # pyright: ignore[reportAttributeAccessIssue]
    events = storage.event_log_storage
    for name in ("has_table", "_has_asset_key_col_on_connection"):
        setattr(events, name, _remember(getattr(events, name)))
    stop_watching = events.dispose

    def dispose() -> None:
        stop_watching()
        engine.dispose()

    events.dispose = dispose


def _note_use(_connection: Any, record: Any) -> None:
    """Record the time of use. `record` is None for an invalidated connection."""
    record.info["used_at"] = time.monotonic()


def _refuse_ended(connection: Any, record: Any, _proxy: object) -> None:
    """Raise DisconnectionError if the server has ended this session; the pool then opens another connection.

    A server that ends a session leaves data to read, and looking for it is a hundred times faster than a query. An idle
    connection is also queried, because a proxy in between may have dropped it silently.
    """
    try:
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        if poll.poll(0):
            raise DisconnectionError
        if time.monotonic() - record.info.get("used_at", 0.0) > _IDLE_SECONDS:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
    except psycopg2.Error as error:
        raise DisconnectionError from error


def _remember(has: Callable[..., bool]) -> Callable[..., bool]:
    """Cache positive results of `has`, whose last argument is a name. A missing name may still be created."""
    there: set[str] = set()

    def ask(*arguments: Any) -> bool:
        name = arguments[-1]
        if name not in there and has(*arguments):
            there.add(name)
        return name in there

    return ask


def _set_utc(connection: Any, _record: object) -> None:
    """Set the session to UTC: Dagster stores CURRENT_TIMESTAMP without a time zone and reads it as UTC."""
    with connection, connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'")
