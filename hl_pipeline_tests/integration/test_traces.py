"""Traces reach a real OTLP collector with the right names and parents, without what a caller sent; off, they cost nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Generator
from datetime import date
from pathlib import Path

import pytest

from api import tracing as api_tracing
from hl_pipeline import tracing
from hl_pipeline.events import is_event
from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import WALLET, serving
from hl_pipeline_tests.servers.otlp import VARIABLE, Collector, collecting
from hl_pipeline_tests.services import up_in

DAY = date(2026, 3, 15)
_INGEST = ("ingest", "--from", str(DAY), "--to", str(DAY))
_SERVER, _CLIENT, _ERROR = 2, 3, 2
_KEY = "k" * 43
_OFF = """
import sys
from api.app import create_app
from hl_pipeline.tracing import span
{more}
create_app()
with span("nothing"):
    pass
print(*(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""


@pytest.fixture(autouse=True)
def _read_variables_again() -> Generator[None]:
    """A process reads them once."""
    for module in (tracing, api_tracing):
        module._find_provider.cache_clear()
    yield
    for module in (tracing, api_tracing):
        module._find_provider.cache_clear()


@pytest.fixture
def collector() -> Generator[Collector]:
    with collecting() as collector:
        yield collector


def test_a_request_arrives_with_its_route_its_caller_and_its_queries(
    database_url: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, collector.url)
    caller, above = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    asked = {"wallet": WALLET, "start": "2025-11-03T00:00:00Z", "end": "2025-11-04T00:00:00Z"}
    with serving(database_url) as api:
        api.session.headers.update({"traceparent": f"00-{caller}-{above}-01", "X-API-Key": _KEY, "Cookie": f"hl={_KEY}"})
        api.get("/api/v1/fills", **asked)
        api.get("/healthz")
        assert api.ask("/api/v1/nothing", wallet=WALLET).status_code == 404
        assert api.ask("/api/v1/fills", wallet=f"{WALLET}ff").status_code == 422
        assert api.ask("/api/v1/fills", **asked, format="csv").status_code == 200

    found, refused, exported = (span for span in collector.spans if span.name == "GET /api/v1/fills")
    assert (found.trace_id, found.parent, found.service, found.kind) == (caller, above, "hl-api", _SERVER)
    assert found.attributes == {
        "http.request.method": "GET",
        "http.route": "/api/v1/fills",
        "http.response.status_code": 200,
    }
    assert (refused.attributes["http.response.status_code"], refused.status) == (422, 0)
    assert collector.named("GET none").attributes["http.response.status_code"] == 404
    queries = [span for span in collector.spans if span.name == "query"]
    for request in (found, exported):
        of_request = [span for span in queries if span.parent == request.span_id]
        assert len(of_request) >= 2
        assert {(span.kind, span.attributes["db.system.name"]) for span in of_request} == {(_CLIENT, "postgresql")}
    assert {span.name for span in collector.spans} == {"GET /api/v1/fills", "GET none", "query"}
    for private in (WALLET, "2025-11-03", _KEY, "127.0.0.1", "python-requests"):
        assert not any(private.encode() in body for body in collector.bodies)


@pytest.mark.slow
def test_a_run_arrives_with_its_stages_below_it(
    world: World, tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    made = write_sample(tmp_path / "sample", first_day=DAY, fills_per_hour=5)
    sources = {"HL_NODE_DATA_URL": str(made.node_data_dir), "HL_TWAP_DATA_URL": str(made.twap_data_dir)}
    caplog.set_level(logging.INFO, "hl_pipeline")

    done = run_in_process(tmp_path, {**world.environment, **sources, VARIABLE: collector.url}, *_INGEST)

    assert done.returncode == 0, done.stdout + done.stderr
    run = collector.named("run")
    assert (run.parent, run.service, run.status) == ("", "hl-pipeline", 0)
    assert {run.attributes[f"hl.{name}"] for name in ("job", "assets", "partition")} == {"ingest_days", "all", str(DAY)}
    assert len(str(run.attributes["hl.run_id"])) == 36
    assert {span.trace_id for span in collector.spans} == {run.trace_id}
    events = [record for record in caplog.records if is_event(record)]
    [logged] = [record.fields["trace_id"] for record in events if record.event == "trace_began"]
    assert logged == run.trace_id
    keys = [str(span.attributes["hl.key"]) for span in collector.spans if span.name == "fetch object"]
    of_fills = [key for key in keys if key.startswith("node_fills_by_block/")]
    assert sorted(of_fills) == sorted(f"node_fills_by_block/hourly/{day:%Y%m%d}/{hour}.lz4" for day, hour in _hours_of(DAY))
    above = {(span.name, *collector.above(span)) for span in collector.spans}
    fetched = [f"fetch {table}" for table in ("raw_fills", "raw_twap_statuses")]
    assert above == {
        *((fetch, "run") for fetch in fetched),
        *((name, fetch, "run") for fetch in fetched for name in ("list objects", "fetch object")),
        *((name, "fetch object", fetch, "run") for fetch in fetched for name in ("download", "decode")),
        ("run",),
        ("load fills", "run"),
        ("derive figures", "run"),
        ("load candles", "run"),
        ("load daily_stats", "run"),
        ("load user_stats", "run"),
        ("load builder_stats", "run"),
        ("load twap_statuses", "run"),
        ("make twaps", "run"),
        ("judge day", "run"),
    }
    assert not any(world.database_url.encode() in body for body in collector.bodies)


@pytest.mark.slow
def test_a_run_that_misses_data_is_marked_by_the_class_of_its_error(world: World, tmp_path: Path, collector: Collector) -> None:
    run_in_process(tmp_path, {**world.environment, VARIABLE: collector.url}, *_INGEST)

    for name in ("run", "judge day"):
        span = collector.named(name)
        assert (span.status, span.message) == (_ERROR, "Failure")


@pytest.mark.slow
def test_a_launched_run_sends_its_spans_before_its_process_ends(directory: Path, collector: Collector) -> None:
    """Such a process is a fork, and calls nothing that was registered for its exit."""
    (directory / "bucket").mkdir()
    sources = {"HL_NODE_DATA_URL": str(directory / "bucket"), "HL_TWAP_DATA_URL": "none"}
    with up_in(directory, {VARIABLE: collector.url, **sources}, HL_SENSORS="false") as up:
        run_id = up.ui.launch("ingest_days", str(DAY))
        wait_until(lambda: any(span.name == "run" for span in collector.spans), 120, "the run's span arrives")

    run = collector.named("run")
    assert (run.attributes["hl.run_id"], run.attributes["hl.partition"]) == (run_id, str(DAY))
    assert collector.above(collector.named("load fills")) == ["run"]


def test_without_the_variables_nothing_is_imported() -> None:
    assert _loaded_when_off("") == ""


@pytest.mark.slow
def test_without_the_variables_the_code_location_imports_nothing() -> None:
    assert _loaded_when_off("import hl_pipeline.definitions") == ""


def _loaded_when_off(more: str) -> str:
    environment = {"HL_SETTINGS_RESOLVED": "1", "HL_DATABASE_URL": "postgresql://hl@127.0.0.1:1/hl", "PATH": "/usr/bin:/bin"}
    code = [sys.executable, "-c", _OFF.format(more=more)]
    root = str(Path(tracing.__file__).parents[1])
    done = subprocess.run(code, env={**environment, "PYTHONPATH": root}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("module", [tracing, api_tracing])
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "the extra `tracing` is not installed; install it with `uv sync --extra tracing`"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL is grpc; only http/protobuf is supported"),
        ({"OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_variables_that_cannot_be_followed_warn_once_and_stop_nothing(
    module: object,
    variables: dict[str, str],
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in {VARIABLE: "http://127.0.0.1:1", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    for _ in range(2):
        if module is tracing:
            with tracing.trace_run(run_id="1"), tracing.span("stage"):
                pass
        else:
            app = object()
            assert api_tracing.trace_requests(app) is app  # pyright: ignore[reportArgumentType]

    expected = [] if reason is None else [f"{VARIABLE} is set, but no traces are sent: {reason}"]
    assert [record.getMessage() for record in caplog.records if "tracing" in record.name] == expected


def _hours_of(day: date) -> list[tuple[date, int]]:
    return [*((day, hour) for hour in range(24)), (date.fromordinal(day.toordinal() + 1), 0)]
