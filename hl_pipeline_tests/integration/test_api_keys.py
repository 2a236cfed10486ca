"""Who may ask the API: keys and their scope, the token of /metrics, and whom an API without keys serves."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from unittest import mock

import psutil
import pytest
import requests
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import run_in_process
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, serving

READER, EXPORTER, TOKEN = "hl_reader-key", "hl_exporter-key", "token-of-prometheus"
KEYS = f"bot:{hashlib.sha256(READER.encode()).hexdigest()} desk:{hashlib.sha256(EXPORTER.encode()).hexdigest()}:exports"
FILLS = "/api/v1/fills"
DAY = {"wallet": WALLET, "start": "2025-11-03", "end": "2025-11-03"}
PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/metrics",
    FILLS,
    "/api/v1/twaps/1",
    "/no-such-path",
    "/static-offline-docs/swagger-ui.css",
]


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", {"time": at("2025-11-03 12:00"), "wallet": WALLET, "tid": 1})
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url, HL_API_KEYS=KEYS, HL_API_METRICS_TOKEN=TOKEN) as api:
        yield api


def _ask(api: Api, path: str, headers: dict[str, str] | None = None, /, **parameters: str) -> requests.Response:
    """Without the session, which would send a cookie on."""
    return requests.get(api.url + path, params=parameters, headers=headers, timeout=20, allow_redirects=False)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_the_health_is_answered_without_a_key(api: Api, path: str) -> None:
    for headers in ({}, {"Authorization": "Basic Ym90OngK"}, _bearer("hl_wrong"), {"X-API-Key": "hl_wrong"}, _bearer("")):
        response = _ask(api, path, headers)
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert (
            "the key is not known" if "wrong" in str(headers) or headers == _bearer("") else "a key is required"
        ) in response.text
        assert "send `Authorization: Bearer" in response.text
    head = requests.head(api.url + path, timeout=20)
    assert (head.status_code, head.content) == (401, b"")
    assert _ask(api, "/healthz").json()["status"] == "healthy"


@pytest.mark.parametrize("headers", [_bearer(READER), {"Authorization": f"bearer  {READER}"}, {"X-API-Key": READER}])
def test_a_key_is_taken_from_either_header(api: Api, headers: dict[str, str]) -> None:
    assert len(_ask(api, FILLS, headers, **DAY).json()["fills"]) == 1
    for path in ("/", "/docs", "/openapi.json", "/metrics"):
        assert _ask(api, path, headers).status_code == 200, path


def test_a_key_may_stand_beside_the_basic_authentication_of_a_proxy(api: Api) -> None:
    assert _ask(api, FILLS, {"Authorization": "Basic Ym90OngK", "X-API-Key": READER}, **DAY).status_code == 200
    assert _ask(api, FILLS, {**_bearer("hl_wrong"), "X-API-Key": READER}, **DAY).status_code == 401


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_needs_the_scope_exports(api: Api, kind: str) -> None:
    media_type = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}[kind]
    for path in (FILLS, "/api/v1/twaps"):
        refused = [
            _ask(api, path, _bearer(READER), format=kind, **DAY),
            _ask(api, path, {**_bearer(READER), "Accept": media_type}, **DAY),
        ]
        for response in refused:
            assert response.status_code == 403
            assert "key bot lacks the scope exports" in response.json()["detail"]
        assert _ask(api, path, _bearer(EXPORTER), format=kind, **DAY).headers["content-type"].startswith(media_type)
    # A JSON answer that was kept for another key is no file.
    assert _ask(api, FILLS, {**_bearer(READER), "Accept": f"{media_type};q=0.1, application/json"}, **DAY).status_code == 200


def test_the_token_opens_the_metrics_and_nothing_else(api: Api) -> None:
    assert "hl_api_requests_total" in _ask(api, "/metrics", _bearer(TOKEN)).text
    assert [_ask(api, path, _bearer(TOKEN)).status_code for path in PATHS if path != "/metrics"] == [401] * (len(PATHS) - 1)


def test_refusals_are_counted_in_the_metrics(api: Api) -> None:
    def refused() -> float:
        families = text_string_to_metric_families(_ask(api, "/metrics", _bearer(TOKEN)).text)
        samples = [sample for family in families for sample in family.samples if sample.name == "hl_api_requests_total"]
        return sum(sample.value for sample in samples if sample.labels["status"] == "401")

    before = refused()
    for _ in range(3):
        _ask(api, FILLS, **DAY)
    assert refused() - before == 3


def test_the_schema_says_how_to_send_a_key(api: Api, url: str) -> None:
    schema = _ask(api, "/openapi.json", _bearer(READER)).json()
    assert {one["type"] for one in schema["components"]["securitySchemes"].values()} == {"http", "apiKey"}
    with serving(url) as open_api:
        assert "securitySchemes" not in _ask(open_api, "/openapi.json").json()["components"]


def test_a_token_alone_closes_the_metrics_alone(url: str) -> None:
    with serving(url, HL_API_METRICS_TOKEN=TOKEN) as api:
        assert [_ask(api, "/metrics", headers).status_code for headers in ({}, _bearer("x"), _bearer(TOKEN))] == [401, 401, 200]
        assert _ask(api, FILLS, **DAY).status_code == 200
        assert _ask(api, "/login").status_code == 404


def _own_address() -> str:
    """An IPv4 address of this machine that others may reach."""
    addresses = [one for every in psutil.net_if_addrs().values() for one in every if one.family == socket.AF_INET]
    return next((one.address for one in addresses if not one.address.startswith("127.")), "")


@pytest.mark.skipif(not _own_address(), reason="this machine has no address but loopback")
def test_without_keys_other_machines_are_refused_with_the_reason(url: str) -> None:
    with serving(url, host=_own_address()) as api:
        for path in PATHS:
            response = _ask(api, path)
            assert response.status_code == 403
            assert "HL_API_KEYS" in response.json()["detail"]
            assert "HL_API_WITHOUT_KEYS=1" in response.json()["detail"]
        assert _ask(api, "/healthz").status_code == 200
        # No header of a client's makes its connection one of this machine.
        assert (
            _ask(api, FILLS, {"Host": "127.0.0.1", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "localhost"}).status_code
            == 403
        )
    with serving(url, host=_own_address(), HL_API_WITHOUT_KEYS="1") as api:
        assert _ask(api, FILLS, **DAY).status_code == 200
    # Keys are asked for, if there are any.
    with serving(url, host=_own_address(), HL_API_WITHOUT_KEYS="1", HL_API_KEYS=KEYS) as api:
        assert [_ask(api, FILLS, headers, **DAY).status_code for headers in ({}, _bearer(READER))] == [401, 200]


@pytest.mark.skipif(not _own_address(), reason="this machine has no address but loopback")
def test_listening_everywhere_serves_this_machine_without_keys(url: str) -> None:
    with serving(url, host="0.0.0.0") as api:
        port = api.url.rsplit(":", 1)[1]
        assert _ask(Api(f"http://127.0.0.1:{port}"), FILLS, **DAY).status_code == 200
        assert _ask(Api(f"http://{_own_address()}:{port}"), FILLS, **DAY).status_code == 403


def test_a_unix_socket_is_served_without_keys(url: str, directory: Path) -> None:
    path = str(directory / "api.sock")
    with mock.patch.dict(os.environ, HL_SETTINGS_RESOLVED="1", HL_API_DATABASE_URL=url):
        server = uvicorn.Server(uvicorn.Config(create_app(), log_config=None, access_log=False))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), 30, "the API answers")
            client = http.client.HTTPConnection("localhost")
            client.sock = socket.socket(socket.AF_UNIX)
            client.sock.connect(path)
            client.request("GET", f"{FILLS}?wallet={WALLET}&start=2025-11-03&end=2025-11-03")
            assert client.getresponse().status == 200
            client.close()
        finally:
            server.should_exit = True
            thread.join(30)


def test_hl_status_shows_that_there_are_secrets_and_hides_them(world: World, tmp_path: Path) -> None:
    environment = {**world.environment, "HL_API_KEYS": KEYS, "HL_API_METRICS_TOKEN": TOKEN}
    for options in ((), ("--json",)):
        done = run_in_process(tmp_path, environment, "status", *options)
        assert done.returncode == 0, done.stderr
        shown = done.stdout + done.stderr
        assert "HL_API_KEYS" in shown
        assert TOKEN not in shown
        assert [entry for entry in KEYS.split() if entry.split(":")[1][:12] in shown] == []
