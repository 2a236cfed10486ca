"""Shards of wallets through raw_api_fills, from a server that answers as the info API does, into the lake; and on to the days."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterInstance, ExecuteInProcessResult, RunConfig, materialize

from hl_pipeline.assets.api import ShardConfig
from hl_pipeline.definitions import BACKFILL, build_resources
from hl_pipeline.lake_api import SHARDS, shard_of
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.backfill import add_wallets
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.info_server import (
    END_MS,
    REACHABLE,
    START_MS,
    Fault,
    Fill,
    InfoServer,
    User,
    key_of,
    make_user,
    serve_info,
)

_HISTORIES: dict[str, dict[str, Any]] = {
    **{str(count): {"count": count} for count in (0, 1, 1999, 2000, 2001, 9999, 10_000, 30_000)},
    "of twaps": {"count": 2500, "slices": 0.97},
    "after": {"count": 0, "after": 3000},
    "hidden": {"count": 500, "after": 10_000},
    "half hidden": {"count": 6000, "after": 7000},
    "nearly hidden": {"count": 3000, "after": 6999},
    "crowd that fits": {"count": 2400, "crowd": (300, 1999), "slices": 0},
    "crowd of a page": {"count": 2500, "crowd": (300, 2000), "slices": 0},
}
_BEGIN_MS = END_MS - 8 * 86_400_000
"""The window here: a lake of eight days has as few files as there may be."""
_WINDOW = {
    "HL_BACKFILL_FROM": datetime.fromtimestamp(_BEGIN_MS / 1000, UTC).isoformat(),
    "HL_BACKFILL_TO": datetime.fromtimestamp((END_MS + 1) / 1000, UTC).isoformat(),
}
Asks = Callable[..., ExecuteInProcessResult]


@cache
def _user(name: str) -> User:
    return _squeezed(make_user(name, **_HISTORIES[name]))


def _squeezed(user: User) -> User:
    """The same history in the window here, its moments at even distances; what came after it, a day later."""
    moments = sorted({fill["time"] for fill in user.fills if fill["time"] <= END_MS})
    step = (END_MS - _BEGIN_MS) // max(len(moments), 1)
    moved = {moment: _BEGIN_MS + n * step for n, moment in enumerate(moments)}
    return User(
        user.wallet, [fill | {"time": moved.get(fill["time"], fill["time"] + 86_400_000)} for fill in user.fills], user.history
    )


@pytest.fixture
def asks(world: World, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Asks:
    """Materialize a shard against a server."""
    del world
    given = _WINDOW | {"HL_INFO_WEIGHT_PER_MINUTE": "1000000", "HL_INFO_ATTEMPTS": "3", "HL_INFO_BACKOFF_SECONDS": "0.01"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def run(server: InfoServer, shard: str, **config: Any) -> ExecuteInProcessResult:
        monkeypatch.setenv("HL_INFO_URL", server.url)
        chosen = RunConfig(ops={"raw_api_fills": ShardConfig(**config)})
        resources = build_resources(Settings())
        return materialize(BACKFILL, partition_key=shard, instance=instance, resources=resources, run_config=chosen)

    return run


def _metadata(result: ExecuteInProcessResult) -> dict[str, Any]:
    [event] = result.asset_materializations_for_node("raw_api_fills")
    return {name: value.value for name, value in event.metadata.items()}


def _checks(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def _in_lake(lake: Path) -> list[tuple[Any, ...]]:
    """Every fill that the lake has from the API, in the order of the truth; each stands under its own day and shard."""
    rows: list[tuple[Any, ...]] = []
    columns = ["time", "coin", "side", "tid", "px", "sz", "oid", "fee", "twap_id", "hash", "wallet"]
    for path in lake.glob("api_fills/date=*/shard=*.parquet"):
        frame = pl.read_parquet(path, hive_partitioning=False)
        assert frame.height
        assert {str(day) for day in frame["time"].dt.date()} == {path.parent.name.removeprefix("date=")}
        assert {shard_of(wallet) for wallet in frame["wallet"]} == {path.stem.removeprefix("shard=")}
        rows += frame.with_columns(pl.col("time").cast(pl.Int64)).select(columns).rows()
    return sorted(rows, key=lambda row: (row[-1], *row[:4]))


def _truth(users: Iterable[tuple[str, Iterable[Fill]]]) -> list[tuple[Any, ...]]:
    return [
        (fill["time"], fill["coin"], fill["side"], fill["tid"], Decimal(fill["px"]), Decimal(fill["sz"]), fill["oid"],
         Decimal(fill["fee"]), fill["twapId"], bytes.fromhex(fill["hash"][2:]), wallet)
        for wallet, fills in sorted(users)
        for fill in sorted(fills, key=key_of)
    ]  # fmt: skip


def _know(connection: psycopg.Connection, users: Iterable[User]) -> None:
    """What the warehouse has of them: statistics of each day with fills after the window, by the server's own record."""
    for user in users:
        days: dict[date, int] = {}
        for fill in user.fills:
            if fill["time"] > END_MS:
                day = datetime.fromtimestamp(fill["time"] / 1000, UTC).date()
                days[day] = days.get(day, 0) + 1
        for day, count in days.items():
            connection.execute(
                "INSERT INTO hl.user_stats (date, wallet, fills, non_market_rows, closed_pnl_known, fees_known, coins, twaps, "
                "first_fill, last_fill, sources) VALUES (%s, %s, %s, 0, 0, 0, 1, 0, %s, %s, '{node_fills}')",
                [day, user.wallet, count, day, day],
            )


def _states(connection: psycopg.Connection) -> dict[str, tuple[str, int, datetime | None]]:
    return {row[0]: row[1:] for row in connection.execute("SELECT wallet, state, fills, oldest FROM hl.backfill_progress")}


def test_the_shard_of_a_wallet_is_the_same_in_python_and_in_sql(connection: psycopg.Connection) -> None:
    wallets = [make_user(f"shard {n}", 0).wallet for n in range(1000)]
    wallets += [wallet.upper().replace("0X", "0x") for wallet in wallets]
    in_sql = connection.execute("SELECT hl.shard_of(wallet) FROM unnest(%s::text[]) wallet", [wallets]).fetchall()
    assert [f"{number:02x}" for (number,) in in_sql] == [shard_of(wallet) for wallet in wallets]
    assert {shard_of(wallet) for wallet in wallets} <= {*SHARDS}
    assert len({shard_of(wallet) for wallet in wallets}) > 200
    # Of a known digest, so that it stays what it is.
    assert shard_of("0x" + "0" * 40) == "0f"


def test_everything_that_can_be_reached_is_in_the_lake_once_and_truncated_is_said_exactly_where_it_is_true(
    asks: Asks, world: World, connection: psycopg.Connection
) -> None:
    users = {name: _user(name) for name in _HISTORIES}
    _know(connection, users.values())
    add_wallets(connection, [user.wallet for user in users.values()])
    with serve_info(InfoServer({user.wallet: user for user in users.values()})) as server:
        results = {shard: asks(server, shard) for shard in {shard_of(user.wallet) for user in users.values()}}
        calls = len(server.log)
        assert {call.status for call in server.log} == {200}
        for shard in results:
            asks(server, shard)
        assert len(server.log) == calls, "a wallet that was asked to its end was asked again"

    assert _in_lake(Path(world.settings.lake)) == _truth((user.wallet, user.reachable(_BEGIN_MS)) for user in users.values())
    states = _states(connection)
    for name, user in users.items():
        reachable = user.reachable(_BEGIN_MS)
        truncated = len(user.fills) >= REACHABLE or name == "crowd of a page"
        oldest = datetime.fromtimestamp(reachable[0]["time"] / 1000, UTC) if reachable else None
        assert states[user.wallet] == ("truncated" if truncated else "complete", len(reachable), oldest), name
    figures = [_metadata(result) for result in results.values()]
    assert sum(figure["requests"] for figure in figures) == calls
    assert sum(figure["weight"] for figure in figures) == sum(call.weight for call in server.log)
    assert sum(figure["dagster/partition_row_count"] for figure in figures) == len(_in_lake(Path(world.settings.lake)))
    for shard, result in results.items():
        truncated = sum(states[wallet][0] == "truncated" for wallet in states if shard_of(wallet) == shard)
        check = _checks(result)["wallets_complete"]
        assert (check.passed, check.severity) == (truncated == 0, AssetCheckSeverity.WARN)
        assert _metadata(result)["wallets_truncated"] == truncated
        assert _checks(result)["wallets_answered"].passed
    dirty = {str(row[0]) for row in connection.execute("SELECT date FROM hl.dirty_days")}
    assert dirty == {path.name.removeprefix("date=") for path in Path(world.settings.lake).glob("api_fills/date=*")}
    assert connection.execute("SELECT count(*) FROM hl.backfill_pages").fetchone() == (0,)
