"""The parts of Dagster beyond its public API that we use still exist and work. An upgrade that changes them fails here."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, DefaultRunLauncher, QueuedRunCoordinator, define_asset_job
from dagster_postgres import DagsterPostgresStorage

import hl_pipeline
from hl_pipeline.assets.verdicts import RETRY_OF_STEPS_TAG
from hl_pipeline.ops import dagster_internals as internals
from hl_pipeline.ops import run_retention
from hl_pipeline.ops.instance import PipelineRunLauncher

_PACKAGE = Path(hl_pipeline.__file__).parent


def _parameters(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


def _imported(path: Path) -> set[str]:
    """The modules that a file imports, also within functions."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {f"{node.module}." for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


@pytest.mark.parametrize("folder", [_PACKAGE, _PACKAGE.parent / "hl_pipeline_tests", _PACKAGE.parent / "api"])
def test_one_module_alone_imports_internals(folder: Path) -> None:
    own = Path(internals.__file__)
    files = [path for path in folder.rglob("*.py") if path != own]
    assert files
    internal = {path: name for path in files for name in _imported(path) if name.startswith(("dagster._", "dagster_shared"))}
    assert internal == {}


def test_every_internal_is_used_and_has_a_reason() -> None:
    lines = Path(internals.__file__).read_text(encoding="utf-8").splitlines()
    sources = "".join(path.read_text(encoding="utf-8") for path in _PACKAGE.rglob("*.py") if path != Path(internals.__file__))
    for name in internals.__all__:
        assert name in sources
    imports = [number for number, line in enumerate(lines) if line.startswith(("from dagster._", "from dagster_shared"))]
    assert imports
    for number in imports:
        assert lines[number - 1].startswith(("#", "from dagster._"))


def test_a_launcher_is_made_and_asked_as_ours_is() -> None:
    assert _parameters(DefaultRunLauncher.from_config_value) == ["inst_data", "config_value"]
    assert _parameters(DefaultRunLauncher.__init__) == ["self", "inst_data"]
    assert _parameters(DefaultRunLauncher.launch_run) == _parameters(PipelineRunLauncher.launch_run)
    assert _parameters(DefaultRunLauncher.check_run_worker_health) == _parameters(PipelineRunLauncher.check_run_worker_health)
    assert isinstance(inspect.getattr_static(DefaultRunLauncher, "supports_check_run_worker_health"), property)
    assert "dagster_run" in dir(internals.LaunchRunContext)
    assert isinstance(inspect.getattr_static(DefaultRunLauncher, "_instance"), property)
    assert _parameters(internals.CheckRunHealthResult)[:3] == ["status", "msg", "transient"]
    assert {status.name for status in internals.WorkerStatus} >= {"RUNNING", "FAILED"}


def test_storage_and_queue_are_made_as_ours_are() -> None:
    assert _parameters(DagsterPostgresStorage)[0] == "postgres_url"
    assert "inst_data" in _parameters(DagsterPostgresStorage)
    assert {"max_concurrent_runs", "dequeue_interval_seconds", "inst_data"} <= set(_parameters(QueuedRunCoordinator))
    for made in (DagsterPostgresStorage, QueuedRunCoordinator):
        assert _parameters(made.from_config_value) == ["inst_data", "config_value"]
        assert _parameters(made.config_type) == []
    assert inspect.isclass(internals.ConfigurableClassData)


def test_a_run_is_created_and_done_in_this_process_as_ours_is() -> None:
    assert _parameters(internals.execute_run)[:3] == ["job", "dagster_run", "instance"]
    assert {"job_def", "run_config", "tags", "remote_job_origin"} <= set(_parameters(DagsterInstance.create_run_for_job))
    target = internals.LoadableTargetOrigin(executable_path="python", module_name="module")
    location = internals.ManagedGrpcPythonEnvCodeLocationOrigin(target, "place")
    origin = internals.RemoteRepositoryOrigin(location, internals.SINGLETON_REPOSITORY_NAME).get_job_origin("job")
    assert (origin.job_name, origin.location_name, origin.repository_origin.get_label()) == (
        "job",
        "place",
        "__repository__@place",
    )


def test_tags_are_what_dagsters_documentation_calls_them() -> None:
    assert internals.GRPC_INFO_TAG == ".dagster/grpc_info"
    assert internals.MAX_RETRIES_TAG == "dagster/max_retries"
    assert internals.RETRY_ON_ASSET_OR_OP_FAILURE_TAG == "dagster/retry_on_asset_or_op_failure" == RETRY_OF_STEPS_TAG
    assert internals.SINGLETON_REPOSITORY_NAME == "__repository__"


def test_a_code_server_tells_its_runs() -> None:
    assert {"host", "port"} <= set(_parameters(internals.DagsterGrpcClient))
    assert _parameters(internals.DagsterGrpcClient.get_current_runs) == ["self"]
    assert hasattr(internals.GetCurrentRunsResult, "current_runs")
    assert issubclass(internals.DagsterUserCodeUnreachableError, Exception)


def test_an_interruption_is_no_exception_and_a_failure_has_a_chain() -> None:
    assert issubclass(internals.DagsterExecutionInterruptedError, BaseException)
    assert not issubclass(internals.DagsterExecutionInterruptedError, Exception)
    assert _parameters(internals.SerializableErrorInfo) == ["message", "stack", "cls_name", "cause", "context"]


def test_a_job_of_assets_has_the_type_that_sensors_take() -> None:
    assert isinstance(define_asset_job("any"), internals.UnresolvedAssetJobDefinition)


def test_the_events_that_are_deleted_by_age_are_events_of_dagster() -> None:
    assert set(run_retention._DELETED) <= {event.value for event in DagsterEventType}  # pyright: ignore[reportPrivateUsage]


def test_a_code_server_starts_runs_in_the_context_that_is_made_to_fork_them() -> None:
    server = importlib.import_module("dagster._grpc.server")
    assert 'self._mp_ctx = multiprocessing.get_context("spawn")' in inspect.getsource(server.DagsterApiServer)
    assert "self._mp_ctx.Process(" in inspect.getsource(server.DagsterApiServer.StartRun)
