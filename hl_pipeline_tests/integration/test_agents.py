"""Protects `hl mcp`: an agent gets the API's answers, never too many rows, and cannot take a gap for a zero."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context

from hl_client import AsyncClient
from hl_pipeline.cli.agent_tools import MOST_ROWS, make_server
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.cli import HL, run_in_process, run_program
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import PROJECT, Program, free_port, started, users_environment, wait_until
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, ns, serving, status_row, twap_row

# Importing the protocol's package takes two seconds of processor.
pytestmark = pytest.mark.slow

_DAY, _TWAP, _FILLS = "2025-11-03", 1_544_034, MOST_ROWS + 7
_LARGE = 2**62
_KEY = "k" * 43
_KEYS = f"agent:{hashlib.sha256(_KEY.encode()).hexdigest()}"
_GUIDE = (PROJECT / "docs" / "guides" / "agents.md").read_text()
Sent = dict[str, Any]


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    noon = at("2025-11-03 12:00")
    with connect(url, "test") as connection:
        add(connection, "fills", *({"time": noon, "px": "0.0000000001", "tid": _LARGE, "ordinal": n} for n in range(_FILLS)))
        made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), at("2025-11-05 00:00"))
        add(connection, "fills_days", {"date": _DAY, **made})
        add(connection, "twap_days", {"date": _DAY, "twaps_at": at("2025-11-05 00:00")})
        add(connection, "twap_statuses", status_row(_TWAP, ns("2025-11-03 12:00"), size_requested="10.5", duration_minutes=5))
        add(connection, "twaps", twap_row(_TWAP, noon, slippage_bps="-1.25"))
        add(connection, "twap_slice_days", {"twap_id": _TWAP, "date": _DAY})
        add(connection, "candles", {"coin": "SOL", "time": noon, "date": _DAY})
        add(connection, "daily_stats", {"date": _DAY, "coin": "SOL"})
        volume = {"maker_notional": "0.1", "taker_notional": "0.2", "first_fill": noon, "last_fill": noon}
        add(connection, "user_stats", {"date": _DAY, "wallet": WALLET, **volume})
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


def _call(api: Api, tool: str, **arguments: Any) -> Sent:
    """The answer of a tool, from a server in this process."""

    @asynccontextmanager
    async def ask(_: Context) -> AsyncGenerator[AsyncClient]:
        async with AsyncClient(api.url, on_incomplete="ignore") as client:
            yield client

    async def call() -> Any:
        async with Client(make_server(ask, "1")) as agent:
            return await agent.call_tool(tool, arguments)

    return _content(asyncio.run(call()))


def _content(result: Any) -> Sent:
    text = result.content[0].text
    if result.is_error:
        return {"error": text}
    # Hosts show either of them to the agent.
    assert json.loads(text) == result.structured_content
    return result.structured_content


def test_an_empty_list_of_a_day_that_is_not_loaded_does_not_look_like_nothing(api: Api) -> None:
    gone = _call(api, "fills", wallet=WALLET, start="2025-11-04", end="2025-11-04")
    nothing = _call(api, "fills", wallet="0x" + "9" * 40, start=_DAY, end=_DAY)

    shown = next(json.loads(text) for text in re.findall(r"```json\n(.*?)```", _GUIDE, re.DOTALL) if "summary" in text)
    assert gone == shown
    assert (nothing["rows"], nothing["is_complete"], nothing["missing"]) == ([], True, [])
    assert nothing["summary"] == "0 rows. Nothing is known to be missing, so nothing matches."


def test_rows_are_capped_and_the_answer_says_that_more_follow(api: Api) -> None:
    some = _call(api, "fills", coin="SOL", start=_DAY, end=_DAY)
    most = _call(api, "fills", coin="SOL", start=_DAY, end=_DAY, limit=MOST_ROWS)
    refused = _call(api, "fills", coin="SOL", start=_DAY, end=_DAY, limit=MOST_ROWS + 1)

    assert [(len(one["rows"]), one["has_more"]) for one in (some, most)] == [(50, True), (MOST_ROWS, True)]
    assert some["summary"].startswith("50 rows, and more follow: do not add them up.")
    assert "less than or equal to 500" in refused["error"]


def test_numbers_keep_every_digit(api: Api) -> None:
    [fill] = _call(api, "fills", coin="SOL", start=_DAY, end=_DAY, limit=1)["rows"]
    assert (fill["px"], fill["tid"], fill["time"]) == ("0.0000000001", str(_LARGE), "2025-11-03T12:00:00Z")
    assert fill["closed_pnl"] is None


def test_each_tool_answers_with_the_figures_of_the_api(api: Api) -> None:
    days = {"start": _DAY, "end": _DAY}
    twap = _call(api, "twap", twap_id=str(_TWAP))
    [listed] = _call(api, "twaps", wallet=WALLET, **days)["rows"]
    summary = _call(api, "wallet_summary", wallet=WALLET, **days)

    assert twap["answer"]["analytics"]["slippage_bps"] == "-1.25"
    assert (listed["twap_id"], listed["size_requested"], listed["analytics"]["slippage_bps"]) == (_TWAP, "10.5", "-1.25")
    assert "raw" not in listed
    assert summary["answer"]["notional"] == "0.3"
    assert _call(api, "twap_fills", twap_id=_TWAP)["rows"] == []
    assert _call(api, "candles", coin="SOL", **days)["rows"][0]["close"] == "2"
    assert _call(api, "coin_stats", **days)["rows"][0]["coin"] == "SOL"
    assert _call(api, "wallet_stats", **days, sort="notional")["rows"][0]["notional"] == "0.3"
    assert _call(api, "leaderboard", board="volume", **days)["rows"][0]["rank"] == 1
    assert _call(api, "twap_flow", coin="SOL", at="2025-11-03T12:30:00Z")["answer"]["px"] == "2"
    assert _call(api, "download_cost")["answer"]["dollars"] == "0"
    [fills, statuses] = _call(api, "coverage", **days)["rows"]
    assert (fills["state"], statuses["state"]) == ("whole", "unprovable")
    assert _call(api, "coverage_hours", **days)["rows"] == []


def test_an_error_has_the_words_of_the_api(api: Api) -> None:
    unknown = _call(api, "candles", coin="sol", start=_DAY, end=_DAY)
    wrong = _call(api, "twaps", wallet="me", start=_DAY, end=_DAY)

    assert "no coin 'sol' is in the loaded days; did you mean SOL?" in unknown["error"]
    assert "wallet: must be 0x and 40 hexadecimal digits" in wrong["error"]


def test_each_tool_says_what_it_does_only_reads_and_is_in_the_guide(api: Api) -> None:
    async def look() -> Any:
        async with Client(make_server(lambda _: AsyncClient(api.url), "1")) as agent:
            return (await agent.list_tools()).tools, agent.instructions

    tools, instructions = asyncio.run(look())

    assert {tool.name for tool in tools} == set(re.findall(r"`(\w+)`", _section("The tools"))) - {"limit"}
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools)
    for tool in tools:
        for name, schema in tool.input_schema["properties"].items():
            # The description of the tool has the columns for `sort`, and says what `is_hole` does.
            said = json.dumps(schema)
            assert "description" in said or "enum" in said or f"`{name}`" in tool.description, (tool.name, name)
    assert "does not mean that nothing happened" in " ".join(instructions.split())


def test_an_agent_that_starts_the_command_gets_answers_from_the_api_with_its_key(url: str, tmp_path: Path) -> None:
    async def ask(api_url: str, key: str) -> tuple[list[str], Sent]:
        environment = {"HL_API_URL": api_url, "HL_API_KEY": key, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        parameters = StdioServerParameters(command=HL, args=["mcp"], env=environment, cwd=tmp_path)
        with (tmp_path / "errors").open("w") as log:
            async with Client(stdio_client(parameters, log)) as agent:
                tools = [tool.name for tool in (await agent.list_tools()).tools]
                return tools, _content(await agent.call_tool("fills", {"coin": "SOL", "start": _DAY, "end": _DAY, "limit": 2}))

    with serving(url, HL_API_KEYS=_KEYS) as guarded:
        tools, sent = asyncio.run(ask(guarded.url, _KEY))
        _, refused = asyncio.run(ask(guarded.url, "wrong"))

    assert "twaps" in tools
    assert (len(sent["rows"]), sent["is_complete"]) == (2, True)
    assert "the key is not known" in refused["error"]
    assert _KEY not in (tmp_path / "errors").read_text()


def test_over_http_the_key_of_the_caller_is_passed_on(url: str, tmp_path: Path) -> None:
    with serving(url, HL_API_KEYS=_KEYS) as guarded, _over_http(tmp_path, "--api-url", guarded.url) as (address, program):
        sent = asyncio.run(_ask_over_http(address, _KEY))
        refused = asyncio.run(_ask_over_http(address, None))
        rebound = httpx2.post(f"{address}", headers={"Host": "evil.example.com"}, json={})
        ended = program.interrupt(20)

    assert sent["answer"]["notional"] == "0.3"
    assert "a key is required" in refused["error"]
    assert rebound.status_code == 421
    assert ended == 0


def test_other_machines_are_let_in_only_if_the_api_has_keys(url: str, api: Api, tmp_path: Path) -> None:
    environment = users_environment(HL_API_KEY=_KEY)
    options = ("mcp", "--http", "--host", "0.0.0.0", "--api-url")

    open_api = run_in_process(tmp_path, environment, *options, api.url)
    nobody = run_in_process(tmp_path, environment, *options, f"http://127.0.0.1:{free_port()}")
    with (
        serving(url, HL_API_KEYS=_KEYS) as guarded,
        _over_http(tmp_path, "--host", "0.0.0.0", "--api-url", guarded.url, HL_API_KEY=_KEY) as (address, _),
    ):
        without = asyncio.run(_ask_over_http(address, None))
        with_key = asyncio.run(_ask_over_http(address, _KEY))

    assert open_api.returncode == 2
    assert f"--host 0.0.0.0 lets other machines in, but the API at {api.url} has no keys" in open_api.stderr
    assert nobody.returncode == 1
    assert "whether the API has keys is unknown: no answer from" in nobody.stderr
    # The server's own key is not lent to others.
    assert "a key is required" in without["error"]
    assert with_key["answer"]["notional"] == "0.3"


def test_without_the_extra_the_command_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("mcp.", "hl_pipeline.cli.agent_tools"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)

    done = run_in_process(tmp_path, users_environment(), "mcp")

    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: `hl mcp` needs the extra `mcp`, version 2 or newer: pip install 'hl-pipeline[mcp]', or uv sync --extra mcp"
    )


def test_a_wrong_address_of_the_api_is_an_error_of_usage(tmp_path: Path) -> None:
    option = run_in_process(tmp_path, users_environment(), "mcp", "--api-url", "localhost:8000")
    setting = run_program(tmp_path, users_environment(HL_API_URL="localhost:8000"), "mcp")

    assert (option.returncode, setting.returncode) == (2, 2)
    assert "--api-url must begin with http:// or https://, not 'localhost:8000'" in option.stderr
    assert "HL_API_URL: must begin with http:// or https://" in setting.stderr


@asynccontextmanager
async def _caller(key: str | None) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"} if key else {}) as caller:
        yield caller


async def _ask_over_http(address: str, key: str | None) -> Sent:
    async with _caller(key) as caller, Client(streamable_http_client(address, http_client=caller)) as agent:
        return _content(await agent.call_tool("wallet_summary", {"wallet": WALLET, "start": _DAY, "end": _DAY}))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def _section(title: str) -> str:
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", _GUIDE, re.MULTILINE | re.DOTALL)
    return text


@contextmanager
def _over_http(directory: Path, *options: str, **variables: str) -> Generator[tuple[str, Program]]:
    """`hl mcp --http` as a program, and its address."""
    port = free_port()
    command = [HL, "mcp", "--http", "--port", str(port), *options]
    with started(command, users_environment(**variables), directory, directory / f"mcp-{port}.log") as program:
        wait_until(lambda: program.process.poll() is not None or _listens(port), 60, "hl mcp listens")
        yield f"http://127.0.0.1:{port}/mcp", program


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
