"""Shards of wallets through raw_api_fills, from a server that behaves like the info API, into the lake and the days."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import psycopg
import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterInstance, ExecuteInProcessResult, RunConfig, materialize

from hl_pipeline.assets.raw_api import ShardConfig, raw_api_fills
from hl_pipeline.definitions import ASSETS, BACKFILL, build_resources
from hl_pipeline.domain.shards import SHARDS, shard_of
from hl_pipeline.lake.store import open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.stages.fetch_shards import InfoDownError
from hl_pipeline.stages.rebuild import record_objects
from hl_pipeline.warehouse.backfill_progress import Window, add_wallets, count_after
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.servers.api import add, at
from hl_pipeline_tests.servers.info_api import (
    END_MS,
    REACHABLE,
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
_STATISTICS = """
INSERT INTO hl.user_stats (date, wallet, fills, non_market_rows, closed_pnl_known, fees_known, coins, twaps,
                           first_fill, last_fill, sources)
VALUES (%s, %s, %s, 0, 0, 0, 1, 0, %s, %s, %s)
"""
Asks = Callable[..., ExecuteInProcessResult]


@cache
def _user(name: str) -> User:
    return _squeezed(make_user(name, **_HISTORIES[name]))


def _of_shard(shard: str, counts: Iterable[int], **given: Any) -> list[User]:
    """Wallets of one shard with so many fills."""
    names = (f"{shard} {n}" for n in itertools.count())
    of_shard = (name for name in names if shard_of(make_user(name, 0).wallet) == shard)
    return [_squeezed(make_user(next(of_shard), count, **given)) for count in counts]


def _squeezed(user: User, begin_ms: int = _BEGIN_MS, end_ms: int = END_MS) -> User:
    """The same history in the window here, its moments at even distances; what came after it, a day later."""
    moments = sorted({fill["time"] for fill in user.fills if fill["time"] <= END_MS})
    step = (end_ms - begin_ms) // max(len(moments), 1)
    moved = {moment: begin_ms + n * step for n, moment in enumerate(moments)}
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
        return materialize([raw_api_fills], partition_key=shard, instance=instance, resources=resources, run_config=chosen)

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
            connection.execute(_STATISTICS, [day, user.wallet, count, day, day, ["node_fills"]])


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


@pytest.mark.slow
def test_everything_reachable_is_in_the_lake_once_and_what_is_cut_off_is_truncated(
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


@pytest.mark.slow
def test_a_refused_wallet_fails_by_name_while_the_rest_go_on_and_is_asked_again(
    asks: Asks, world: World, connection: psycopg.Connection
) -> None:
    users = _of_shard("7e", [0, 5, 40, 2100])
    refused = users[1].wallet
    add_wallets(connection, [user.wallet for user in users])
    server = InfoServer({user.wallet: user for user in users}, refused={refused: "Failed to deserialize the JSON body"})
    with serve_info(server):
        result = asks(server, "7e")
        check = _checks(result)["wallets_answered"]
        assert (check.passed, check.severity) == (False, AssetCheckSeverity.ERROR)
        assert refused in str(check.description)
        assert "422: 'Failed to deserialize the JSON body'" in str(check.description)
        assert {wallet: state for wallet, (state, *_) in _states(connection).items()} == {
            user.wallet: "failed" if user.wallet == refused else "complete" for user in users
        }
        others = [user for user in users if user.wallet != refused]
        assert _in_lake(Path(world.settings.lake)) == _truth((user.wallet, user.fills) for user in others)
        server.refused.clear()
        before = len(server.log)
        assert _checks(asks(server, "7e"))["wallets_answered"].passed
        assert {call.question["user"] for call in server.log[before:]} == {refused}
    assert _in_lake(Path(world.settings.lake)) == _truth((user.wallet, user.fills) for user in users)


def test_what_cannot_be_taken_of_a_wallet_stands_beside_its_fills(
    asks: Asks, world: World, connection: psycopg.Connection, new_database: NewDatabase
) -> None:
    [user, unasked] = _of_shard("7e", [30, 0])
    fills = [fill | ({"px": "cheap"} if n == 7 else {}) for n, fill in enumerate(user.fills)]
    add_wallets(connection, [user.wallet, unasked.wallet])
    with serve_info(InfoServer({user.wallet: User(user.wallet, fills)})) as server:
        assert _metadata(asks(server, "7e", wallets=[user.wallet]))["bad_items"] == 1
    lake = Path(world.settings.lake)
    assert _in_lake(lake) == _truth([(user.wallet, fills[:7] + fills[8:])])
    [line] = (lake / "api_fills/shard=7e.bad.jsonl").read_text().splitlines()
    bad = json.loads(line)
    assert bad["reason"].startswith(f"{user.wallet}: ")
    told = json.loads(bad["text"])
    assert (told.get("fill", told)["tid"], told.get("fill", told)["px"]) == (fills[7]["tid"], "cheap")
    # A new database has from the lake who is not to be asked again.
    there = "SELECT * FROM hl.backfill_progress WHERE wallet = %s"
    with psycopg.connect(new_database(), autocommit=True) as empty:
        add_wallets(empty, [user.wallet])
        for _ in range(2):
            record_objects(empty, open_lake(str(lake)))
        [told] = empty.execute(there, [user.wallet]).fetchall()
        assert [told] == connection.execute(there, [user.wallet]).fetchall()
        assert empty.execute("SELECT count(*) FROM hl.backfill_progress").fetchone() == (1,)
        everything = "SELECT * FROM hl.backfill_bad"
        assert empty.execute(everything).fetchall() == connection.execute(everything).fetchall() != []


@pytest.mark.slow
def test_a_wider_window_asks_again_and_no_fill_is_there_twice(
    asks: Asks, world: World, connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    [user] = _of_shard("7e", [2500])
    middle = user.fills[1200]["time"]
    add_wallets(connection, [user.wallet])
    with serve_info(InfoServer({user.wallet: user})) as server:
        monkeypatch.setenv("HL_BACKFILL_FROM", datetime.fromtimestamp(middle / 1000, UTC).isoformat())
        asks(server, "7e")
        newer = [fill for fill in user.fills if fill["time"] >= middle]
        assert _in_lake(Path(world.settings.lake)) == _truth([(user.wallet, newer)])
        monkeypatch.setenv("HL_BACKFILL_FROM", _WINDOW["HL_BACKFILL_FROM"])
        asks(server, "7e")
    assert _in_lake(Path(world.settings.lake)) == _truth([(user.wallet, user.fills)])
    assert _states(connection)[user.wallet][:2] == ("complete", 2500)


def test_fewer_fills_than_the_warehouse_has_of_the_window_are_not_called_complete(
    asks: Asks, connection: psycopg.Connection
) -> None:
    agent, [user] = User(make_user("agent 7e", 0).wallet), _of_shard("7e", [10])
    day = datetime.fromtimestamp(user.fills[-1]["time"] / 1000, UTC).date()
    shard = shard_of(agent.wallet)
    for wallet, fills in ((user.wallet, 11), (agent.wallet, 1)):
        connection.execute(_STATISTICS, [date(2025, 5, 20), wallet, fills, day, day, ["node_trades"]])
    with serve_info(InfoServer({user.wallet: user})) as server:
        asks(server, "7e")
        asks(server, shard)
    assert {wallet: (state, fills) for wallet, (state, fills, _) in _states(connection).items()} == {
        user.wallet: ("truncated", 10),
        agent.wallet: ("truncated", 0),
    }
    reason = connection.execute("SELECT reason FROM hl.backfill_progress WHERE wallet = %s", [user.wallet]).fetchone()
    assert reason == ("10 fills were fetched, but 11 in the window are known from other sources",)


@pytest.mark.slow
def test_an_api_that_answers_for_nobody_is_not_asked_for_everybody(asks: Asks, connection: psycopg.Connection) -> None:
    users = _of_shard("7e", [1] * 40)
    add_wallets(connection, [user.wallet for user in users])
    with serve_info(InfoServer({user.wallet: user for user in users}, chance=1.0, kinds=("403",))) as server:
        with pytest.raises(InfoDownError, match="did not respond for the last"):
            asks(server, "7e")
        assert 8 <= len(server.log) <= 16
        server.chance = 0
        asks(server, "7e")
    assert {state for state, *_ in _states(connection).values()} == {"complete"}


def test_days_have_the_apis_fills_once_and_the_market_is_what_a_bucket_has(
    asks: Asks, world: World, connection: psycopg.Connection, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two days, of the first of which there is no bucket, of the second two hours of node_trades."""
    start, end = datetime(2025, 3, 21, tzinfo=UTC), datetime(2025, 3, 23, tzinfo=UTC)
    users = [_squeezed(user, _ms_of(start), _ms_of(end)) for user in _of_shard("7e", [300, 40])]
    known = [(user, fill) for user in users for fill in user.fills if 34 <= (fill["time"] - _ms_of(start)) // 3_600_000 < 36]
    strangers = _write_node_trades(world.bucket, known)
    add_wallets(connection, [user.wallet for user in users])
    monkeypatch.setenv("HL_BACKFILL_FROM", start.isoformat())
    monkeypatch.setenv("HL_BACKFILL_TO", end.isoformat())
    with serve_info(InfoServer({user.wallet: user for user in users})) as server:
        asks(server, "7e")
    days = [start.date(), date(2025, 3, 22)]
    results = [
        materialize(ASSETS, partition_key=str(day), instance=instance, resources=build_resources(Settings())) for day in days
    ]

    stored = connection.execute(
        "SELECT time, coin, side, tid, px, sz, oid, fee, twap_id, hash, wallet, source FROM hl.fills "
        "JOIN hl.s3_ingest_log USING (object_id) ORDER BY wallet, time, coin, side, tid"
    ).fetchall()
    own = {user.wallet for user in users}
    assert [(_ms_of(row[0]), *row[1:11]) for row in stored if row[10] in own] == _truth((u.wallet, u.fills) for u in users)
    assert {row[11] for row in stored if row[10] in own} == {"api_fills"}
    # Of the other legs nobody knows more than node_trades, but for the trade that both legs share.
    others = [(_ms_of(row[0]), row[1], row[2], row[3], row[6], row[7], row[11]) for row in stored if row[10] not in own]
    assert sorted(others) == sorted((*leg, None, "node_trades") for leg in strangers)

    states = connection.execute("SELECT date, rows, state, explanation FROM hl.fills_days ORDER BY date").fetchall()
    first = sum(fill["time"] < _ms_of(start) + 86_400_000 for user in users for fill in user.fills)
    assert states[0] == (
        days[0], first, "no source",
        f"No S3 source has this day. From the info API {first} fills of 2 wallets: 2 complete, 0 truncated.",
    )  # fmt: skip
    assert states[1][2] == "incomplete"
    hours = connection.execute("SELECT DISTINCT date_trunc('hour', time) FROM hl.candles ORDER BY 1").fetchall()
    assert hours == [(datetime(2025, 3, 22, 10, tzinfo=UTC),), (datetime(2025, 3, 22, 11, tzinfo=UTC),)]
    trades = connection.execute("SELECT date, sum(trades) FROM hl.daily_stats GROUP BY 1").fetchall()
    assert trades == [(days[1], len(known))]
    of_wallets = connection.execute(
        "SELECT wallet, sum(fills), bool_or(is_complete) FROM hl.user_stats WHERE sources = '{api_fills}' GROUP BY 1"
    ).fetchall()
    assert sorted(of_wallets) == sorted((user.wallet, len(user.fills), False) for user in users)
    accounted = [
        check for result in results for check in result.get_asset_check_evaluations() if check.check_name == "fills_accounted_for"
    ]
    # Two days of daily_stats, user_stats and builder_stats.
    assert len(accounted) == 6
    assert all(check.passed for check in accounted)


def _write_node_trades(bucket: Path, known: list[tuple[User, Fill]]) -> list[tuple[int, str, str, int, int]]:
    """An object an hour of node_trades with these fills, each traded with a stranger; the strangers' legs."""
    lines: dict[int, list[str]] = {}
    strangers: list[tuple[int, str, str, int, int]] = []
    for n, (user, fill) in enumerate(known):
        moment = datetime.fromtimestamp(fill["time"] / 1000, UTC)
        side = "A" if fill["side"] == "B" else "B"
        own = {"user": user.wallet, "start_pos": fill["startPosition"], "oid": fill["oid"], "twap_id": None, "cloid": None}
        other = own | {"user": f"0x{n:040x}", "start_pos": "0.0", "oid": 10**9 + n}
        trade = {name: fill[name] for name in ("coin", "px", "sz", "hash")} | {
            "side": fill["side"] if fill["crossed"] else side,
            "time": moment.isoformat(timespec="milliseconds").removesuffix("+00:00"),
            "trade_dir_override": "Na",
            "side_info": [own, other] if fill["side"] == "B" else [other, own],
        }
        lines.setdefault(moment.hour, []).append(json.dumps(trade) + "\n")
        strangers.append((fill["time"], fill["coin"], side, fill["tid"], other["oid"]))
    for hour, texts in lines.items():
        path = bucket / f"node_trades/hourly/20250322/{hour}.lz4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lz4.frame.compress("".join(texts).encode()))
    return strangers


def _ms_of(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


@pytest.mark.slow
def test_statuses_of_the_api_are_events_of_their_day_with_the_id_of_their_twap(
    world: World, connection: psycopg.Connection, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = _of_shard("7e", [0])[0].wallet
    start = _ms_of(datetime(2025, 3, 1, 23, 59, 30, tzinfo=UTC))

    def said(seconds: int, kind: str, twap: int | None, begun: int = start) -> dict[str, Any]:
        state = {
            "coin": "BTC", "user": wallet, "side": "B", "sz": "2.5", "executedSz": "0.0", "executedNtl": "0.0", "minutes": 30,
            "reduceOnly": False, "randomize": True, "timestamp": begun,
        }  # fmt: skip
        return {"time": begun // 1000 + seconds, "state": state, "status": {"status": kind}} | (
            {} if twap is None else {"twapId": twap}
        )

    other = start + 86_400_000
    history = [
        said(0, "activated", 77),
        said(60, "finished", None),
        # Of the second there is a row of its own in the warehouse, of the third nobody knows an id.
        said(0, "activated", None, other),
        said(5, "terminated", None, other + 1),
    ]
    connection.execute(
        "INSERT INTO hl.twap_statuses "
        "(twap_id, time, status, wallet, coin, side, started_at, object, raw_payload, time_ns, date) "
        "SELECT 88, moment, 'finished', %s, 'BTC', 'B', %s, 'x', '{}', 0, '2020-01-01' FROM now() moment",
        [wallet, datetime.fromtimestamp(other / 1000, UTC)],
    )
    with serve_info(InfoServer({wallet: User(wallet, [], history)})) as server:
        monkeypatch.setenv("HL_INFO_URL", server.url)
        add_wallets(connection, [wallet])
        resources = build_resources(Settings())
        results = [
            materialize(BACKFILL, partition_key="7e", instance=instance, resources=build_resources(Settings())) for _ in range(2)
        ]
        assert [call.question["type"] for call in server.log].count("twapHistory") == 1
    [event] = results[0].asset_materializations_for_node("raw_api_twap_history")
    assert (event.metadata["dagster/partition_row_count"].value, event.metadata["bad_items"].value) == (3, 1)
    checks = {
        check.check_name: check
        for check in results[0].get_asset_check_evaluations()
        if check.asset_key.to_user_string() == "raw_api_twap_history"
    }
    assert (checks["wallets_answered"].passed, checks["statuses_have_twaps"].passed) == (True, False)
    days = [date(2025, 3, 1), date(2025, 3, 2)]
    assert [row[0] for row in connection.execute("SELECT date FROM hl.dirty_days ORDER BY 1")] == days
    for day in days:
        assert materialize(ASSETS, partition_key=str(day), instance=instance, resources=resources).success
    events = connection.execute(
        "SELECT twap_id, status, extract(epoch FROM time)::bigint, size_requested, object FROM hl.twap_statuses "
        "WHERE time < '2025-04-01' ORDER BY time"
    ).fetchall()
    place = "api_twap_history/date={}/shard=7e.parquet"
    assert events == [
        (77, "activated", start // 1000, Decimal("2.5"), place.format(days[0])),
        (77, "finished", start // 1000 + 60, Decimal("2.5"), place.format(days[1])),
        (88, "activated", other // 1000, Decimal("2.5"), place.format(days[1])),
    ]
    [line] = (Path(world.settings.lake) / "api_fills/shard=7e.bad.jsonl").read_text().splitlines()
    assert json.loads(json.loads(line)["text"]) == history[3]
    assert "it has no twapId, and no TWAP is known of its wallet that began in BTC at 2025-03-02 23:59:30.001" in line

    # The TWAP is known later.
    connection.execute("UPDATE hl.twap_statuses SET twap_id = 99, started_at = started_at + '1 ms'::interval WHERE twap_id = 88")
    again = materialize(BACKFILL, partition_key="7e", instance=instance, resources=build_resources(Settings()))
    [event] = again.asset_materializations_for_node("raw_api_twap_history")
    assert (event.metadata["dagster/partition_row_count"].value, event.metadata["bad_items"].value) == (4, 0)
    assert connection.execute("SELECT date FROM hl.dirty_days").fetchall() == [(days[1],)]
    assert materialize(ASSETS, partition_key=str(days[1]), instance=instance, resources=resources).success
    events = connection.execute(
        "SELECT status, object FROM hl.twap_statuses WHERE twap_id = 99 AND date > '2025-01-01'"
    ).fetchall()
    assert events == [("terminated", place.format(days[1]))]
    assert not (Path(world.settings.lake) / "api_fills/shard=7e.bad.jsonl").exists()


def test_what_is_known_from_after_the_window_is_counted_from_its_end_on(connection: psycopg.Connection) -> None:
    wallet, other = make_user("own", 0).wallet, make_user("other", 0).wallet
    window = Window(datetime(2025, 5, 1, tzinfo=UTC), datetime(2025, 5, 25, 14, tzinfo=UTC))
    moments = ["13:59:59.999", "14:00:00", "14:00:00.001", "23:59:59.999"]
    rows = [{"time": at(f"2025-05-25 {moment}"), "tid": n, "wallet": wallet} for n, moment in enumerate(moments, 1)]
    add(connection, "fills", *rows, rows[1] | {"wallet": other})
    for day, fills in ((date(2025, 5, 24), 1000), (date(2025, 5, 25), 4), (date(2025, 5, 26), 7), (date(2026, 1, 1), 20)):
        connection.execute(_STATISTICS, [day, wallet, fills, day, day, ["node_fills"]])
    assert count_after(connection, wallet, window) == 3 + 7 + 20
    assert count_after(connection, other, window) == 1
    assert count_after(connection, wallet, Window(window.start, datetime(2025, 5, 26, tzinfo=UTC))) == 7 + 20
    # Thinned: nobody knows any more which of the day's are after it.
    connection.execute("TRUNCATE hl.fills")
    connection.execute("INSERT INTO hl.fills_days (date, rows, duplicates, thinned_at) VALUES ('2025-05-25', 5, 0, now())")
    assert count_after(connection, wallet, window) == 4 + 7 + 20
