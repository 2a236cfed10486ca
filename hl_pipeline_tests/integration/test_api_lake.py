"""Fills of days that are in the lake alone: the API answers as it did while they were in hl.fills, or says why it cannot.

Everything is asked of a lake in a directory and of one on S3.
"""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from hl_pipeline.lake.store import Lake, list_below, open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.stages.compact import compact_day
from hl_pipeline.stages.fetch_day import fetch_fills
from hl_pipeline.stages.load_fills import load_fills
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.fills_partitions import thin_day
from hl_pipeline.warehouse.locks import lock_fills_day
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import Api, serving
from hl_pipeline_tests.servers.s3 import S3Server

# Loading four days takes ten seconds.
pytestmark = pytest.mark.slow
FIRST = date(2026, 3, 13)
HOT, HOURS, COMPACTED, LAST = (FIRST + timedelta(n) for n in range(4))
"""Days in hl.fills, in the lake by hour, in the lake at rest, and in hl.fills again."""
FILLS = "/api/v1/fills"
RANGE = {"start": str(FIRST), "end": str(LAST)}


@dataclass(frozen=True, slots=True)
class Tiers:
    """An API that reads two of four days from the lake, and one on a copy of the database from before they left it."""

    api: Api
    truth: Api
    url: str
    lake_url: str
    lake: Lake
    wallets: list[str]
    coins: list[str]
    twaps: list[int]

    def every(self, **asked: Any) -> list[Any]:
        """Return all fills before the days left PostgreSQL."""
        return [fill for page in self.truth.pages(FILLS, "fills", limit=5000, **asked) for fill in page]

    def read(self, path: str) -> bytes:
        """Return the content of a file of the lake."""
        with self.lake.filesystem.open_input_file(f"{self.lake.root}/{path}") as file:
            return file.read()

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the lake, while nothing reads it."""
        with self.lake.filesystem.open_output_stream(f"{self.lake.root}/{path}") as file:
            file.write(content)

    def delete(self, path: str) -> None:
        """Delete a file of the lake."""
        self.lake.filesystem.delete_file(f"{self.lake.root}/{path}")


@pytest.fixture(scope="module", params=["directory", "s3"])
def lake_url(request: pytest.FixtureRequest, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    if request.param == "directory":
        yield str(tmp_path_factory.mktemp("lake"))
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        yield f"{s3.new_bucket()}/a/prefix"


@pytest.fixture(scope="module")
def tiers(lake_url: str, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Generator[Tiers]:
    home = tmp_path_factory.mktemp("tiers")
    bucket = write_sample(home / "sample", first_day=FIRST, days=4, fills_per_hour=12).node_data_dir
    url = new_database()
    settings = Settings(
        home=home,
        database_url=SecretStr(url),
        lake_url=lake_url,
        node_data_url=str(bucket),
        twap_data_url="none",
        publish_lag_hours=1_000_000,
    )
    lake = open_lake(settings.lake)
    with connect(url, "test") as connection:
        for day in (HOT, HOURS, COMPACTED, LAST):
            fetch_fills(day, lake, connection, settings)
            load_fills(day, lake, connection, settings)
        wallets, coins, twaps = (
            [row[0] for row in connection.execute(f"SELECT {name} FROM hl.fills GROUP BY 1 ORDER BY count(*) DESC, 1".encode())]
            for name in ("wallet", "coin", "twap_id")
        )
    truth = new_database(template=url.rpartition("/")[2].partition("?")[0])
    with connect(url, "test") as connection:
        compact_day(COMPACTED, lake, connection)
        for day in (HOURS, COMPACTED):
            with lock_fills_day(connection, day):
                thin_day(connection, day, 5)
    # The S3 server, the API and the test share a process.
    with serving(url, HL_LAKE_URL=settings.lake, HL_API_STATEMENT_TIMEOUT_SECONDS="60") as api, serving(truth) as before:
        found = [one for one in twaps if one is not None]
        yield Tiers(api, before, url, lake_url, lake, wallets, coins, found)


def _without_tier(answer: dict[str, Any]) -> dict[str, Any]:
    """Join the runs of days that differ in the tier alone."""
    runs: list[dict[str, Any]] = []
    for run in answer["coverage"]:
        plain = {name: value for name, value in run.items() if name not in ("tier", "note")}
        alike = {name: value for name, value in plain.items() if name not in ("from", "to")}
        if runs and {name: value for name, value in runs[-1].items() if name not in ("from", "to")} == alike:
            runs[-1]["to"] = plain["to"]
        else:
            runs.append(plain)
    return {**answer, "coverage": runs}


def test_coverage_says_which_days_come_from_the_lake(tiers: Tiers) -> None:
    coverage = tiers.api.get(FILLS, wallet=tiers.wallets[0], **RANGE)["coverage"]
    by_day = {}
    for run in coverage:
        for n in range((date.fromisoformat(run["to"]) - date.fromisoformat(run["from"])).days + 1):
            by_day[date.fromisoformat(run["from"]) + timedelta(n)] = run.get("tier", "postgresql")
    assert by_day == {HOT: "postgresql", HOURS: "lake", COMPACTED: "lake", LAST: "postgresql"}
    assert "absent" not in {run["state"] for run in coverage}


_MOMENTS = st.one_of(
    st.integers(0, 3).map(lambda n: str(FIRST + timedelta(n))),
    st.integers(0, 4 * 86_400 - 1).map(
        lambda s: f"{datetime(2026, 3, 13, tzinfo=UTC) + timedelta(seconds=s):%Y-%m-%dT%H:%M:%SZ}"
    ),
    st.integers(0, 3 * 3_600).map(lambda s: f"{datetime(2026, 3, 14, tzinfo=UTC) + timedelta(seconds=s):%Y-%m-%dT%H:%M:%S.5Z}"),
)


@given(data=st.data())
def test_answers_equal_those_before_the_days_left_postgresql(tiers: Tiers, data: st.DataObject) -> None:
    start, end = sorted((data.draw(_MOMENTS), data.draw(_MOMENTS)))
    asked: dict[str, Any] = {"start": start, "end": end, "limit": data.draw(st.sampled_from([1, 2, 7, 60, 5000]))}
    which = data.draw(st.sampled_from(["wallet", "coin", "both"]))
    asked |= {"wallet": data.draw(st.sampled_from(tiers.wallets))} if which != "coin" else {}
    asked |= {"coin": data.draw(st.sampled_from(tiers.coins))} if which != "wallet" else {}
    for _ in range(30 if tiers.lake.is_local else 3):
        found, expected = tiers.api.ask(FILLS, **asked), tiers.truth.ask(FILLS, **asked)
        assert found.status_code == expected.status_code == 200, (found.text, expected.text)
        assert _without_tier(found.json()) == _without_tier(expected.json())
        if (cursor := found.json()["next_cursor"]) is None:
            return
        asked["cursor"] = cursor


@pytest.mark.parametrize("limit", [1, 13, 100])
def test_pages_cross_the_border_both_ways_and_lose_nothing(tiers: Tiers, limit: int) -> None:
    start, end = {
        1: (f"{HOT}T23:50:00Z", f"{HOURS}T00:10:00Z"),
        13: (f"{HOURS}T23:30:00Z", f"{COMPACTED}T00:30:00Z"),
        100: (f"{HOURS}T23:30:00Z", f"{LAST}T00:30:00Z"),
    }[limit]
    asked = {"coin": tiers.coins[0], "start": start, "end": end}
    expected = tiers.every(**asked)
    pages = tiers.api.pages(FILLS, "fills", limit=limit, **asked)
    assert [fill for page in pages for fill in page] == expected
    assert len(expected) > limit


def test_fills_of_a_twap_are_found_in_both_tiers(tiers: Tiers) -> None:
    assert tiers.twaps
    asked = tiers.twaps[: 5 if tiers.lake.is_local else 1]
    with connect(tiers.url, "test") as connection:
        for twap in asked:
            connection.execute(
                "INSERT INTO hl.twap_slice_days SELECT %s, d FROM unnest(%s::date[]) d ON CONFLICT DO NOTHING",
                [twap, [FIRST, LAST]],
            )
    for twap in asked:
        found = [fill for page in tiers.api.pages(f"/api/v1/twaps/{twap}/fills", "fills", limit=5000) for fill in page]
        every = [fill for coin in tiers.coins for fill in tiers.every(coin=coin, **RANGE) if fill["twap_id"] == str(twap)]
        key = ("time", "tid", "side", "wallet")
        assert sorted(found, key=lambda fill: [fill[name] for name in key]) == sorted(
            every, key=lambda fill: [fill[name] for name in key]
        )
        assert found


@pytest.mark.parametrize("limit", [{}, {"limit": 77}])
def test_exports_equal_those_before_the_days_left_postgresql(tiers: Tiers, limit: dict[str, int]) -> None:
    for asked in ({"coin": tiers.coins[0]}, {"wallet": tiers.wallets[0]}, {"coin": tiers.coins[0], "start": str(HOURS)}):
        every = {**RANGE, **asked, **limit}
        csv = tiers.api.ask(FILLS, format="csv", **every)
        assert csv.text == tiers.truth.ask(FILLS, format="csv", **every).text
        assert csv.text.count("\n") > 30
        tables = [
            pq.read_table(io.BytesIO(one.ask(FILLS, format="parquet", **every).content)) for one in (tiers.api, tiers.truth)
        ]
        assert tables[0].replace_schema_metadata().equals(tables[1].replace_schema_metadata())


def test_a_day_that_is_being_replaced_is_refused_until_the_ledger_knows(tiers: Tiers) -> None:
    path = f"fills/date={HOURS}/hour=01.parquet"
    before = tiers.read(path)
    asked = {"start": str(HOURS), "end": str(LAST)}
    other = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(before)).slice(1), other)
    try:
        tiers.write(path, other.getvalue())
        response = tiers.api.ask(FILLS, coin=tiers.coins[0], limit=4999, **asked)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
        said = response.json()["detail"]
        assert all(
            word in said
            for word in (path, "the day is being loaded again", f"`hl ingest --from {HOURS} --to {HOURS}` finishes it")
        )
        tiers.delete(path)
        gone = tiers.api.ask(FILLS, coin=tiers.coins[0], limit=4999, **asked)
        assert (gone.status_code, f"{path} is not there; `hl lake verify`" in gone.json()["detail"]) == (503, True)
        assert tiers.api.ask(FILLS, coin=tiers.coins[0], format="csv", **asked).status_code == 503
    finally:
        tiers.write(path, before)
    assert tiers.api.get(FILLS, coin=tiers.coins[0], limit=5000, **asked)["fills"]


def test_an_outdated_compaction_is_not_read(tiers: Tiers) -> None:
    """A load changes `loaded_at`: from then on the hours have the day."""
    [hidden] = list_below(tiers.lake, f"iceberg/fills/data/date={COMPACTED}")
    content = tiers.read(hidden)
    expected = tiers.truth.get(FILLS, coin=tiers.coins[0], start=str(COMPACTED), end=str(COMPACTED))["fills"]
    with connect(tiers.url, "test") as connection:
        connection.execute("UPDATE hl.lake_days SET loaded_at = loaded_at - interval '1 second' WHERE date = %s", [COMPACTED])
        tiers.delete(hidden)
        try:
            found = tiers.api.get(FILLS, coin=tiers.coins[0], start=str(COMPACTED), end=str(COMPACTED))["fills"]
            assert found == expected != []
        finally:
            tiers.write(hidden, content)
            connection.execute("UPDATE hl.lake_days SET loaded_at = loaded_at + interval '1 second' WHERE date = %s", [COMPACTED])


def test_a_lake_that_cannot_be_read_is_named_and_no_day_looks_empty(tiers: Tiers, tmp_path: Path) -> None:
    if not tiers.lake.is_local:
        pytest.skip("test_api_lake_errors.py has the errors of S3")
    asked = {"coin": tiers.coins[0], "limit": 5000, **RANGE}
    lake = tmp_path / "lake"
    with serving(tiers.url, HL_LAKE_URL=str(lake)) as api, serving(tiers.url) as unset:
        for one, reason in ((api, "is not a directory"), (unset, "HL_LAKE_URL is not set")):
            response = one.ask(FILLS, **asked)
            absent = [run for run in response.json()["coverage"] if run["state"] == "absent"]
            assert [(run["from"], run["to"]) for run in absent] == [(str(HOURS), str(COMPACTED))]
            assert reason in absent[0]["note"]
            assert "no-store" in response.headers["Cache-Control"]
        lake.symlink_to(tiers.lake_url)
        assert _without_tier(api.get(FILLS, **asked)) == _without_tier(tiers.truth.get(FILLS, **asked))


def test_a_day_that_leaves_postgresql_between_pages_changes_no_page(tiers: Tiers) -> None:
    asked = {"coin": tiers.coins[0], "limit": 40, "start": str(LAST), "end": str(LAST)}
    expected = tiers.truth.get(FILLS, **{**asked, "limit": 5000})["fills"]
    first = tiers.api.get(FILLS, **asked)
    with connect(tiers.url, "test") as connection, connection.transaction():
        connection.execute(f"ALTER TABLE hl.fills DETACH PARTITION hl.fills_{LAST:%Y%m%d}".encode())
        connection.execute("UPDATE hl.fills_days SET thinned_at = now() WHERE date = %s", [LAST])
    try:
        second = tiers.api.get(FILLS, **asked, cursor=first["next_cursor"])
        assert second["coverage"][0]["tier"] == "lake"
        assert first["fills"] + second["fills"] == expected[:80]
    finally:
        with connect(tiers.url, "test") as connection:
            bounds = f"FROM ('{LAST}') TO ('{LAST + timedelta(1)}')"
            connection.execute(f"ALTER TABLE hl.fills ATTACH PARTITION hl.fills_{LAST:%Y%m%d} FOR VALUES {bounds}".encode())
            connection.execute("UPDATE hl.fills_days SET thinned_at = NULL WHERE date = %s", [LAST])


def test_a_slow_query_of_the_lake_is_interrupted(tiers: Tiers) -> None:
    with serving(tiers.url, HL_LAKE_URL=tiers.lake_url, HL_API_STATEMENT_TIMEOUT_SECONDS="2") as api:
        api.get(FILLS, coin=tiers.coins[0], start=str(COMPACTED), end=str(COMPACTED), limit=1)
    with serving(tiers.url, HL_LAKE_URL=tiers.lake_url, HL_API_STATEMENT_TIMEOUT_SECONDS="0.002") as api:
        response = api.ask(FILLS, coin=tiers.coins[0], limit=4999, **RANGE)
        assert response.status_code == 504


@pytest.mark.parametrize("lines", ["twaps", "fills"])
def test_a_tax_file_equals_that_before_the_days_left_postgresql(tiers: Tiers, lines: str) -> None:
    for wallet in tiers.wallets[:5]:
        asked = {"year": 2026, "lines": lines, "format": "ndjson"}
        found, truth = (one.ask(f"/api/v1/wallets/{wallet}/tax", **asked) for one in (tiers.api, tiers.truth))
        assert found.status_code == 200
        assert found.content == truth.content
        assert found.content.count(b'"line":"missing"') == 2
