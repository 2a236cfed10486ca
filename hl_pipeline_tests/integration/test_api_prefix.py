"""The API behind a path prefix, which the proxy strips or keeps: links, redirects, the page /docs, cursors."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
import requests

from hl_pipeline.ops.services import Address, commands
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import HL, run_in_process
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.processes import free_port, started, wait_until
from hl_pipeline_tests.servers.api import WALLET, Api, add, ns, serving, status_row

PREFIX = "/a/hl-1"
LINKS = {"docs": "/docs", "openapi": "/openapi.json", "health": "/healthz", "metrics": "/metrics"}
NOVEMBER = {"wallet": WALLET, "start": "2025-11-01", "end": "2025-11-30"}


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "twap_statuses", *(status_row(number, ns("2025-11-03 12:00:00")) for number in (1, 2)))
    return url


@pytest.fixture(scope="module", params=["setting", "setting with a slash", "uvicorn"])
def api(request: pytest.FixtureRequest, url: str) -> Generator[Api]:
    """Told by its own setting, or by uvicorn's option, as an ASGI server has it."""
    by_uvicorn = request.param == "uvicorn"
    variables = {} if by_uvicorn else {"HL_API_PATH_PREFIX": PREFIX + ("/" if "slash" in request.param else "")}
    with serving(url, root_path=PREFIX if by_uvicorn else "", **variables) as api:
        yield api


def _through_the_proxy(api: Api, link: str) -> requests.Response:
    """A proxy that takes the prefix away, as `location /a/hl-1/ { proxy_pass http://api/; }` does."""
    assert link.startswith(f"{PREFIX}/"), link
    return requests.get(api.url + link.removeprefix(PREFIX), timeout=10)


def test_the_links_at_the_root_have_the_prefix_and_lead_on(api: Api) -> None:
    answer = api.get("/")
    assert {name: answer[name] for name in LINKS} == {name: PREFIX + path for name, path in LINKS.items()}
    for name in LINKS:
        assert _through_the_proxy(api, answer[name]).status_code == 200


def test_the_page_of_the_api_works_below_the_prefix(api: Api) -> None:
    page = _through_the_proxy(api, f"{PREFIX}/docs").text
    found = [link for link in re.findall(r"""(?:src|href|url)[=:] ?["']([^"']+)""", page) if link.startswith("/")]
    assert len(found) >= 3
    for link in found:
        assert _through_the_proxy(api, link).status_code == 200
    assert _through_the_proxy(api, f"{PREFIX}/openapi.json").json()["servers"] == [{"url": PREFIX}]


def test_a_redirect_stays_below_the_prefix(api: Api) -> None:
    response = requests.get(f"{api.url}/api/v1/twaps/", params=NOVEMBER, allow_redirects=False, timeout=10)
    assert response.status_code == 307
    assert f"{PREFIX}/api/v1/twaps?" in response.headers["location"]


@pytest.mark.slow
def test_a_proxy_may_leave_the_prefix_and_a_cursor_goes_on_without_it(url: str) -> None:
    with serving(url, HL_API_PATH_PREFIX=PREFIX) as api:
        for path in ("/", "/docs", "/openapi.json", "/healthz"):
            assert api.ask(PREFIX + path).status_code == 200
        assert api.ask(PREFIX).status_code == 200
        assert api.get(f"{PREFIX}/")["docs"] == f"{PREFIX}/docs"
        first = api.get(f"{PREFIX}/api/v1/twaps", **NOVEMBER, limit=1)
        second = api.get("/api/v1/twaps", **NOVEMBER, cursor=first["next_cursor"])
        assert [twap["twap_id"] for twap in first["twaps"] + second["twaps"]] == ["2", "1"]
        # No other path begins with it.
        assert api.ask(f"{PREFIX}x/healthz").status_code == 404
        assert api.refuses(f"{PREFIX}/api/v1/twaps/1", x="1") == {"x": "this path has no parameters"}


def test_without_a_prefix_links_are_as_they_were(url: str) -> None:
    with serving(url) as api:
        answer = api.get("/")
        assert {name: answer[name] for name in LINKS} == LINKS
        assert "servers" not in api.get("/openapi.json")


@pytest.mark.slow
def test_hl_api_takes_the_prefix_as_an_option_before_the_setting(world: World, tmp_path: Path) -> None:
    port = free_port()
    environment = {**world.environment, "HL_API_PATH_PREFIX": "/other"}
    command = [HL, "api", "--port", str(port), "--path-prefix", PREFIX]
    with started(command, environment, tmp_path, tmp_path / "api.log") as program:
        wait_until(lambda: program.answers(f"http://127.0.0.1:{port}{PREFIX}/healthz"), 60, "the API answers")
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).json()["docs"] == f"{PREFIX}/docs"
        assert program.interrupt(30) == 0, program.output
    assert f"http://127.0.0.1:{port}{PREFIX}/docs" in program.output


def test_the_webserver_is_given_the_prefix_of_the_ui() -> None:
    api = Address(8000, "/hl")
    assert "--path-prefix" not in commands(Address(3000), api)["webserver"]
    command = commands(Address(3000, "/dagster"), api)["webserver"]
    assert command[command.index("--path-prefix") + 1] == "/dagster"


@pytest.mark.parametrize("prefix", ["hl", "/a b", "//x", "/ü", "http://host/hl", "/a/../b?"])
def test_what_is_no_prefix_is_refused(prefix: str, world: World, tmp_path: Path) -> None:
    done = run_in_process(tmp_path, world.environment, "api", "--path-prefix", prefix)
    assert done.returncode == 2
    assert "must begin with a slash" in " ".join(done.stderr.split())
    done = run_in_process(tmp_path, {**world.environment, "HL_PATH_PREFIX": prefix}, "status")
    assert (done.returncode, "error: HL_PATH_PREFIX: must begin with a slash" in done.stderr) == (2, True)
