"""/api/v1/coverage, and the coverage in every list: hours and days, with pages, filters and exports."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Generator
from datetime import date
from itertools import product
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, serving

HOURS, DAYS = "/api/v1/coverage", "/api/v1/coverage/days"
MARCH = {"start": "2026-03-01", "end": "2026-03-31"}
STATES = "'present', 'unprovable', 'not due', 'missing', 'failed', 'blocks missing' or 'acknowledged'"
BY_BLOCK, STATUSES = "node_fills_by_block", "twap_statuses"


def _hours() -> list[dict[str, Any]]:
    """A hole of each kind, twice: once nobody, once somebody knows of it; what is none; statuses of an hour and of none."""
    kinds = ["present", "unprovable", "not due", "missing", "failed", "blocks missing"]
    many = {"missing_blocks": 4, "missing_ranges": "{[5,8),[20,21)}", "object_key": "9.lz4", "rows": 7, "bad_lines": 0}
    rows: list[dict[str, Any]] = []
    for number, found in enumerate(kinds):
        values = {"found": found, **(many if found == "blocks missing" else {})}
        rows.append({"object_date": "2026-03-05", "object_hour": 10 + number, **values})
        rows.append({"object_date": "2026-03-07", "object_hour": 10 + number, "note": "known", **values})
    old = {"source": "node_trades", "object_date": "2026-03-05", "expected": False}
    rows += [{**old, "object_hour": 10, "found": "missing"}, {**old, "object_hour": 11, "found": "unprovable"}]
    rows.append({"source": STATUSES, "object_date": "2026-03-05", "object_hour": None, "found": "missing", "why": 'no "object"'})
    rows.append({"source": STATUSES, "object_date": "2026-03-05", "object_hour": 0, "found": "unprovable"})
    # Nothing but the hour that 2026-03-09 needs, and what it was given beside it.
    rows += [{"object_date": "2026-03-10", "object_hour": hour, "found": "missing"} for hour in (0, 1, 2, 3)]
    rows.append({"object_date": "2026-03-08", "object_hour": 23, "found": "present"})
    rows += [{"object_date": "2026-03-20", "object_hour": hour, "found": "failed"} for hour in range(24)]
    noted = {"object_date": "2026-03-21", "found": "failed", "note": "known"}
    return rows + [{**noted, "object_hour": hour} for hour in range(3)]


def _is_hole(row: dict[str, Any]) -> bool:
    return row["found"] in ("failed", "blocks missing") or (row["found"] == "missing" and row.get("expected", True))


def _state(row: dict[str, Any]) -> str:
    return "acknowledged" if _is_hole(row) and "note" in row else row["found"]


def _place(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["object_date"], row.get("source", BY_BLOCK), -1 if row["object_hour"] is None else row["object_hour"]


@pytest.fixture(scope="module")
def api(new_database: NewDatabase) -> Generator[Api]:
    url = new_database()
    with connect(url, "test") as connection:
        _insert(connection)
    with serving(url) as api:
        yield api


def _insert(connection: psycopg.Connection) -> None:
    add(connection, "coverage", *_hours())
    edges = {"edges": ["no block before midnight was seen", "none after it"]}
    add(connection, "fills_days", {"date": "2026-03-04", "thinned_at": at("2026-05-01 00:00")})
    add(connection, "fills_days", {"date": "2026-03-05", "state": "incomplete", "explanation": "much lacks", **edges})
    add(connection, "fills_days", {"date": "2026-03-06", "state": None})
    add(connection, "fills_days", {"date": "2026-03-09", "state": "incomplete", "explanation": "hour 0"})
    add(
        connection, "twap_days", {"date": "2026-03-05", "state": "incomplete", "explanation": "no object"}, {"date": "2026-03-06"}
    )


def test_hours_come_by_day_dataset_and_hour_in_pages_of_any_size(api: Api) -> None:
    expected = sorted(_hours(), key=_place)
    whole = api.get(HOURS, **MARCH)["hours"]
    assert [(*_place(hour), hour["state"], hour["is_hole"]) for hour in whole] == [
        (*_place(row), _state(row), _is_hole(row)) for row in expected
    ]
    for limit in (1, 3, len(whole) - 1, len(whole)):
        assert [hour for page in api.pages(HOURS, "hours", **MARCH, limit=limit) for hour in page] == whole
    [blocks] = api.get(HOURS, **MARCH, state="blocks missing")["hours"]
    assert (blocks["missing_ranges"], blocks["missing_blocks"]) == ([[5, 7], [20, 20]], 4)


def test_filters_leave_what_they_name(api: Api) -> None:
    day = [row for row in _hours() if row["object_date"] == "2026-03-05"]
    datasets, states = (None, BY_BLOCK, "node_trades", STATUSES, "node_fills"), (None, "missing", "blocks missing", "present")
    for dataset, state, is_hole in product(datasets, states, (None, True, False)):
        asked = {"dataset": dataset, "state": state, "is_hole": None if is_hole is None else str(is_hole).lower()}
        answer = api.get(HOURS, start="2026-03-05", end="2026-03-05", **asked)
        assert [_place(hour) for hour in answer["hours"]] == sorted(
            _place(row)
            for row in day
            if dataset in (None, row.get("source", BY_BLOCK))
            and state in (None, _state(row))
            and is_hole in (None, _is_hole(row))
        )
        assert (answer["dataset"], answer["state"], answer["is_hole"]) == (dataset, state, is_hole)
    known = api.get(HOURS, **MARCH, state="acknowledged")["hours"]
    assert [_place(hour) for hour in known] == sorted(_place(row) for row in _hours() if _state(row) == "acknowledged")


def test_days_say_how_they_were_judged_and_which_nobody_has_asked_for(api: Api) -> None:
    days = api.get(DAYS, start="2026-03-03", end="2026-03-10")["days"]
    told = {(day["date"], day["what"]): (day["state"], day["holes"], day["acknowledged"]) for day in days}
    never = ("never asked for", 0, 0)
    assert [*told] == [(f"2026-03-{day:02}", what) for day in range(3, 11) for what in ("fills", STATUSES)]
    assert {day: told[f"2026-03-{day:02}", "fills"] for day in range(3, 11)} == {
        3: never,
        4: ("whole", 0, 0),
        5: ("incomplete", 3, 0),
        6: ("not judged", 0, 0),
        7: ("not loaded", 0, 3),
        8: never,
        # Its own hours have no row, and the first one of the day after is a hole.
        9: ("incomplete", 1, 0),
        10: ("never asked for", 4, 0),
    }
    of_statuses = {5: ("incomplete", 1, 0), 6: ("unprovable", 0, 0)}
    assert {day: told[f"2026-03-{day:02}", STATUSES] for day in range(3, 11)} == {
        day: of_statuses.get(day, never) for day in range(3, 11)
    }
    fifth = next(day for day in days if (day["date"], day["what"]) == ("2026-03-05", "fills"))
    assert (fifth["explanation"], fifth["rows"]) == ("much lacks", 1)
    assert fifth["edges"] == ["no block before midnight was seen", "none after it"]
    assert next(day["thinned_at"] for day in days if day["date"] == "2026-03-04") == "2026-05-01T00:00:00Z"


def test_days_come_in_pages_of_any_size_and_by_state(api: Api) -> None:
    whole = api.get(DAYS, **MARCH)["days"]
    assert len(whole) == 62
    for limit in (1, 7, 61, 62):
        assert [day for page in api.pages(DAYS, "days", **MARCH, limit=limit) for day in page] == whole
    for asked in ({"state": "never asked for"}, {"what": "fills"}, {"what": STATUSES, "state": "incomplete"}):
        expected = [day for day in whole if all(day[name] == value for name, value in asked.items())]
        for limit in (1, 500):
            assert [day for page in api.pages(DAYS, "days", **MARCH, **asked, limit=limit) for day in page] == expected
    assert len(api.get(DAYS, start="2023-01-01", end="2200-12-31", limit=5000)["days"]) == 5000
    last = api.get(DAYS, start="2023-01-01", end="2200-12-31", state="incomplete")["days"]
    assert [(day["date"], day["what"]) for day in last] == [
        ("2026-03-05", "fills"),
        ("2026-03-05", STATUSES),
        ("2026-03-09", "fills"),
    ]


def test_lists_name_the_holes_of_their_days_and_no_more_than_24(api: Api) -> None:
    def runs(path: str, **asked: str) -> dict[str, dict[str, Any]]:
        return {run["from"]: run for run in api.get(path, **asked)["coverage"]}

    def hole(day: str, hour: int, state: str) -> dict[str, Any]:
        return {"source": BY_BLOCK, "object_date": day, "object_hour": hour, "state": state}

    fills = runs("/api/v1/fills", wallet=WALLET, **MARCH)
    assert "holes" not in fills["2026-03-04"]
    fifth = fills["2026-03-05"]
    states = {13: "missing", 14: "failed", 15: "blocks missing"}
    assert (fifth["holes"], fifth.get("acknowledged")) == (3, None)
    assert fifth["hours"] == [hole("2026-03-05", number, state) for number, state in states.items()]
    seventh = fills["2026-03-07"]
    assert (seventh["to"], seventh.get("holes"), seventh["acknowledged"]) == ("2026-03-08", None, 3)
    assert seventh["hours"] == [hole("2026-03-07", number, "acknowledged") for number in states]
    assert fills["2026-03-09"]["hours"] == [hole("2026-03-10", 0, "missing")]
    rest = fills["2026-03-10"]
    assert (rest["to"], rest["holes"], rest["acknowledged"]) == ("2026-03-31", 28, 3)
    first = [hole("2026-03-10", number, "missing") for number in range(4)]
    assert rest["hours"] == first + [hole("2026-03-20", number, "failed") for number in range(20)]
    [both] = runs("/api/v1/fills", wallet=WALLET, start="2026-03-21", end="2026-03-21").values()
    assert [one["object_hour"] for one in both["hours"]] == [0, 1, 2]
    [known_last] = runs("/api/v1/stats/daily", start="2026-03-20", end="2026-03-21").values()
    assert (known_last["holes"], known_last["acknowledged"], len(known_last["hours"])) == (24, 3, 24)
    assert {one["state"] for one in known_last["hours"]} == {"failed"}
    twaps = runs("/api/v1/twaps", wallet=WALLET, **MARCH)
    assert {start: run.get("hours") for start, run in twaps.items()} == {
        "2026-03-01": None,
        "2026-03-05": [{"source": STATUSES, "object_date": "2026-03-05", "state": "missing"}],
        "2026-03-06": None,
        "2026-03-07": None,
    }


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(("path", "name", "nested"), [(HOURS, "hours", "missing_ranges"), (DAYS, "days", "edges")])
def test_files_have_the_fields_and_values_of_json(api: Api, path: str, name: str, nested: str) -> None:
    rows = api.get(path, **MARCH)[name]
    response = api.ask(path, **MARCH, format="csv")
    assert response.headers["content-disposition"].endswith('-20260301-20260331.csv"')
    found = [*csv.DictReader(io.StringIO(response.text, newline=""), strict=True)]
    assert [*found[0]] == [*rows[0]]
    for row, text in zip(rows, found, strict=True):
        assert json.loads(text.pop(nested) or "null") == row.pop(nested)
        assert text == {column: _as_text(value) for column, value in row.items()}
    table = pq.read_table(io.BytesIO(api.ask(path, **MARCH, format="parquet").content))
    assert table.num_rows == len(rows)
    day = rows[-1].get("object_date") or rows[-1]["date"]
    assert date.fromisoformat(day) == table["object_date" if path == HOURS else "date"][-1].as_py()
    assert table.schema.field("rows").type == pa.int64()
    assert len([*csv.DictReader(io.StringIO(api.ask(path, **MARCH, format="csv", limit=3).text))]) == 3


@pytest.mark.parametrize(
    ("path", "asked", "wrong"),
    [
        (
            HOURS,
            {"dataset": "fills"},
            {"dataset": "must be 'node_trades', 'node_fills', 'node_fills_by_block' or 'twap_statuses'"},
        ),
        (HOURS, {"state": "hole"}, {"state": f"must be {STATES}"}),
        (HOURS, {"is_hole": "1"}, {"is_hole": "must be true or false"}),
        (HOURS, {"start": "2026-03-01T00:00:00Z"}, {"start": "must be a day like 2025-11-03"}),
        (HOURS, {"end": "2026-02-28"}, {"end": "must not be before start"}),
        (DAYS, {"what": "candles"}, {"what": "must be 'fills' or 'twap_statuses'"}),
        (
            DAYS,
            {"dataset": BY_BLOCK},
            {"dataset": "is not a parameter of this path; its parameters are: start, end, limit, cursor, what, state, format"},
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_may_be(
    api: Api, path: str, asked: dict[str, str], wrong: dict[str, str]
) -> None:
    assert api.refuses(path, **{**MARCH, **asked}) == wrong


def test_a_cursor_goes_with_its_own_filters_alone(api: Api) -> None:
    cursor = api.get(HOURS, **MARCH, limit=1)["next_cursor"]
    refused = {"cursor": "is not a next_cursor of this path with these parameters"}
    assert api.refuses(HOURS, **MARCH, state="missing", cursor=cursor) == refused
    assert api.refuses(DAYS, **MARCH, cursor=cursor) == refused
