"""/openapi.json and the page /docs: the default requests of the page return rows, whatever the database contains."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
import pytest
import requests
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.api import Api, add, at, ns, serving, status_row, twap_row

WALLET, COIN, TWAP = "0x" + "7e" * 20, "xyz:NVDA", 987_654
LISTS = ("fills", "twaps", "candles", "stats", "rows", "hours", "days", "ranking", "builders")


def _fill(connection: psycopg.Connection) -> None:
    """A TWAP of a day that is there, an older one, and a newer one whose fills are not there."""
    made = dict.fromkeys(("candles_at", "daily_stats_at", "user_stats_at", "builder_stats_at"), at("2025-09-03 00:00"))
    add(connection, "fills_days", {"date": "2025-09-01", **made}, {"date": "2025-08-01", **made})
    add(connection, "fills_days", {"date": "2025-09-02", **made, "thinned_at": at("2025-12-01 00:00")})
    for twap_id, day, wallet in ((5, "2025-08-01", "0x" + "01" * 20), (TWAP, "2025-09-01", WALLET), (6, "2025-09-02", WALLET)):
        begins = at(f"{day} 10:00")
        add(connection, "twaps", twap_row(twap_id, begins, wallet=wallet, coin=COIN, ended_at=at(f"{day} 10:30")))
    add(connection, "twap_statuses", status_row(TWAP, ns("2025-09-01 10:00"), wallet=WALLET, coin=COIN))
    add(connection, "twap_slice_days", {"twap_id": TWAP, "date": "2025-09-01"})
    add(connection, "fills", {"time": at("2025-09-01 10:01"), "wallet": WALLET, "coin": COIN, "twap_id": TWAP, "tid": 1})
    day = {"date": "2025-09-01"}
    add(connection, "candles", {**day, "coin": COIN, "time": at("2025-09-01 10:01")})
    add(connection, "daily_stats", {**day, "coin": COIN, "kind": "hip3", "fees": Json({})})
    times = {"first_fill": at("2025-09-01 10:01"), "last_fill": at("2025-09-01 10:01")}
    add(connection, "user_stats", {**day, "wallet": WALLET, **times})
    add(connection, "builder_stats", {**day, "builder": "0x" + "b1" * 20, "coin": COIN, "fees": Json({"USDC": "1"})})
    add(connection, "coverage", {"object_date": "2025-09-01", "object_hour": 10})


@pytest.fixture(scope="module")
def api(new_database: NewDatabase) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _fill(connection)
    with serving(url) as api:
        yield api


def _operations(api: Api) -> dict[str, dict[str, Any]]:
    return {path: methods["get"] for path, methods in api.get("/openapi.json")["paths"].items()}


def _as_filled_in(operation: dict[str, Any], path: str) -> tuple[str, dict[str, Any]]:
    """The request of "Try it out", "Execute": every example and every default is sent."""
    query: dict[str, Any] = {}
    for parameter in operation.get("parameters", []):
        value = parameter.get("example", parameter["schema"].get("default"))
        if value is None:
            continue
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        else:
            query[parameter["name"]] = str(value).lower() if isinstance(value, bool) else value
    return path, query


def test_what_the_page_sends_as_it_stands_has_rows(api: Api) -> None:
    asked: dict[str, dict[str, Any]] = {}
    for path, operation in _operations(api).items():
        filled, query = _as_filled_in(operation, path)
        response = api.ask(filled, **query)
        assert response.status_code == 200, (filled, query, response.text)
        asked[filled] = query
        if path.startswith("/api/"):
            if response.headers["content-type"].startswith("text/csv"):
                assert len(response.text.splitlines()) > 1, (filled, query)
                continue
            answer = response.json()
            lists = [answer[name] for name in LISTS if isinstance(answer.get(name), list)]
            assert all(lists), (filled, query)
    day = {"start": "2025-09-01", "end": "2025-09-01"}
    assert asked["/api/v1/fills"] == {"wallet": WALLET, "coin": COIN, **day}
    assert f"/api/v1/twaps/{TWAP}/analytics" in asked


def test_a_cursor_can_be_given_to_what_the_page_sends(api: Api) -> None:
    for path, operation in _operations(api).items():
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        if "cursor" not in names:
            continue
        filled, query = _as_filled_in(operation, path)
        assert not {"limit", "offset"} & set(query), path
        cursor = api.get(filled, **query, limit=1)["next_cursor"]
        assert cursor is None or api.ask(filled, **query, cursor=cursor).status_code == 200
    # A client that does send what it would be without.
    with_nothing = {"wallet": WALLET, "start": "2025-09-01", "end": "2025-09-01", "offset": 0, "cursor": "x"}
    assert set(api.refuses("/api/v1/twaps", **with_nothing)) == {"cursor"}
    assert set(api.refuses("/api/v1/twaps", **with_nothing | {"offset": 1})) == {"offset"}


def test_each_operation_has_a_summary_of_its_own(api: Api) -> None:
    summaries = [operation["summary"] for operation in _operations(api).values()]
    assert len(set(summaries)) == len(summaries)
    for path, operation in _operations(api).items():
        # FastAPI would make one of the function's name: List Fills.
        assert operation["summary"] == operation["description"][: len(operation["summary"])], path
        assert len(operation["summary"]) <= 90


@pytest.mark.slow
def test_without_twaps_or_statistics_the_examples_are_of_some_fill(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        add(connection, "fills_days", {"date": "2025-09-01"})
        add(connection, "fills", {"time": at("2025-09-01 10:01"), "wallet": WALLET, "coin": COIN})
    with serving(database_url) as api:
        path, query = _as_filled_in(_operations(api)["/api/v1/fills"], "/api/v1/fills")
        assert len(api.get(path, **query)["fills"]) == 1


@pytest.mark.parametrize("database", few(["empty", "away"], 1))
def test_without_rows_or_a_database_there_is_a_page_all_the_same(database: str, database_url: str) -> None:
    url = database_url if database == "empty" else f"postgresql://u@127.0.0.1:{free_port()}/hl"
    with serving(url) as api:
        wallet = next(one for one in _operations(api)["/api/v1/twaps"]["parameters"] if one["name"] == "wallet")
        assert wallet["schema"]["examples"][0].startswith("0x")
        assert requests.get(f"{api.url}/docs", timeout=10).status_code == 200
