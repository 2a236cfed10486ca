"""Candles, daily_stats, user_stats: every figure equals an independent computation, on generated days and on real fills."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import lz4.frame
import psycopg
import pytest
from psycopg.rows import dict_row

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.conftest import NewDatabase, World
from hl_pipeline_tests.days import failed_checks, make_day
from hl_pipeline_tests.naive import statistics as naive_statistics
from hl_pipeline_tests.naive.fills import read_bucket
from hl_pipeline_tests.naive.statistics import Leg, Row, day_of, is_market, read_legs, trades_of
from hl_pipeline_tests.profiles import few

DAY = date(2026, 3, 15)
KEYS = {"candles": ("coin", "time"), "daily_stats": ("coin",), "user_stats": ("wallet",), "builder_stats": ("builder", "coin")}
NAIVE: dict[str, Callable[[list[Leg]], dict[Any, Row]]] = {
    "candles": naive_statistics.candles,
    "daily_stats": naive_statistics.daily_stats,
    "user_stats": naive_statistics.user_stats,
    "builder_stats": naive_statistics.builder_stats,
}
STATISTICS = ["candles", "daily_stats", "user_stats", "builder_stats"]
SUMS = ("volume", "notional", "vwap", "buy_volume", "sell_volume", "buy_notional", "sell_notional")
every_table = pytest.mark.parametrize("table", KEYS)


@dataclass(frozen=True, slots=True)
class Kind:
    """Of what sort a generated day is: which day, how many fills, which of the possible ones; whether it can be proven whole."""

    day: date
    fills_per_hour: int
    seed: int
    is_complete: bool | None


KINDS = {
    "by_block": Kind(DAY, 150, 12, True),
    "node_trades_beside_node_fills": Kind(date(2025, 6, 10), 100, 2, None),
    "node_trades": Kind(date(2025, 4, 1), 100, 3, None),
    "node_trades_then_node_fills": Kind(date(2025, 5, 25), 100, 1, None),
    "node_fills_then_by_block": Kind(date(2025, 7, 27), 100, 2, None),
}


@dataclass(frozen=True, slots=True)
class Made:
    """A generated day that went through all assets: its bucket, its legs, and the environment that it is in."""

    kind: Kind
    bucket: Path
    legs: list[Leg]
    environment: dict[str, str]
    failed_checks: set[str]

    @property
    def database_url(self) -> str:
        return self.environment["HL_DATABASE_URL"]


@pytest.fixture(scope="module", params=few([pytest.param(kind, id=name) for name, kind in KINDS.items()], 1))
def made(request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _make(request.param, tmp_path_factory.mktemp("stats"), new_database)


@pytest.fixture(scope="module")
def by_block(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _make(KINDS["by_block"], tmp_path_factory.mktemp("stats"), new_database)


def _make(kind: Kind, directory: Path, new_database: NewDatabase) -> Made:
    sample = write_sample(directory, first_day=kind.day, fills_per_hour=kind.fills_per_hour, seed=kind.seed, record_legs=True)
    environment = {
        "HL_HOME": str(directory / "home"),
        "HL_DATABASE_URL": new_database(),
        "HL_LAKE_URL": str(directory / "lake"),
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
    }
    failed = failed_checks(make_day(environment, kind.day))
    return Made(kind, sample.node_data_dir, read_legs(sample.truth_dir, kind.day), environment, failed)


def _query(database_url: str, query: str, parameters: tuple[object, ...] = ()) -> list[Row]:
    with psycopg.connect(database_url, options="-c timezone=UTC") as connection:
        return connection.cursor(row_factory=dict_row).execute(query.encode(), parameters).fetchall()


def _stored(database_url: str, table: str, day: date) -> dict[Any, Row]:
    """A day's rows by their key: what the naive way gives of them."""
    rows = _query(database_url, f"SELECT * FROM hl.{table} WHERE date = %s", (day,))
    return _by_key(rows, KEYS[table], leave_out=("date", "is_complete"))


def _by_key(rows: Iterable[Row], names: tuple[str, ...], leave_out: tuple[str, ...] = ()) -> dict[Any, Row]:
    found: dict[Any, Row] = {}
    for row in rows:
        key: Any = tuple(row.pop(name) for name in names)
        key = key if len(names) > 1 else key[0]
        assert key not in found
        found[key] = {name: value for name, value in row.items() if name not in leave_out}
    return found


def _copied(made: Made, world: World) -> Path:
    """A copy of the day's bucket, for tests that damage it."""
    shutil.copytree(made.bucket, world.bucket, dirs_exist_ok=True)
    return world.bucket


def test_the_sample_has_fills_of_every_kind(by_block: Made) -> None:
    legs, trades = by_block.legs, trades_of(by_block.legs)
    by_trade = naive_statistics.grouped(filter(is_market, legs), lambda leg: leg["trade"]).values()
    dirs = {leg["dir"] for leg in legs}
    assert {"Spot Dust Conversion", "Settlement", "Merge Outcome", "Negate Outcome", "Auto-Deleveraging"} <= dirs
    assert "Frobnicate Outcome" in dirs
    assert any(trade["liquidated"] for trade in trades)
    assert any(trade["by_twap"] for trade in trades)
    assert any(trade["by_builder"] for trade in trades)
    assert any(len(of) == 1 and of[0]["crossed"] for of in by_trade)
    assert any(len(of) == 1 and not of[0]["crossed"] for of in by_trade)
    assert any(len(of) == 2 and of[0]["wallet"] == of[1]["wallet"] for of in by_trade)
    assert {naive_statistics.kind_of(leg["coin"]) for leg in legs} == {"perp", "spot", "hip3", "outcome"}
    spot = [leg for leg in legs if naive_statistics.kind_of(leg["coin"]) == "spot" and leg["fee"]]
    assert {(leg["side"], leg["fee"] < 0) for leg in spot} == {("A", False), ("A", True), ("B", False), ("B", True)}
    only_bookings = {leg["coin"] for leg in legs} - {leg["coin"] for leg in legs if is_market(leg)}
    assert only_bookings
    assert {leg["fee_token"] for leg in legs} > {"USDC", "USDH", "USDT0", "USDE", "HYPE"}


@every_table
def test_every_figure_of_a_day_is_what_the_second_way_gives(made: Made, table: str) -> None:
    stored, expected = _stored(made.database_url, table, made.kind.day), NAIVE[table](made.legs)
    _assert_equal(stored, expected)
    # Builders are not in node_trades.
    least = 100 if table != "builder_stats" else 0 if made.kind is KINDS["node_trades"] else 20
    assert len(stored) >= least
    assert _query(made.database_url, f"SELECT count(*) FROM hl.{table}") == [{"count": len(stored)}]


def _assert_equal(stored: dict[Any, Row], expected: dict[Any, Row]) -> None:
    assert stored.keys() == expected.keys()
    both = [(key, name, row[name], expected[key][name]) for key, row in stored.items() for name in row]
    assert [found for found in both if found[2] != found[3]] == []
    assert all(row.keys() == expected[key].keys() for key, row in stored.items())


def test_a_day_is_said_to_be_complete_where_blocks_prove_it(made: Made) -> None:
    for table in ("user_stats", "daily_stats"):
        said = _query(made.database_url, f"SELECT DISTINCT date, is_complete FROM hl.{table}")
        assert said == [{"date": made.kind.day, "is_complete": made.kind.is_complete}]
    assert made.failed_checks == (set() if made.kind.is_complete else {"day_is_whole"})


def test_the_fills_of_a_day_are_the_legs_that_can_be_had(made: Made) -> None:
    stored = _query(made.database_url, "SELECT f.*, l.object_key FROM hl.fills f JOIN hl.s3_ingest_log l USING (object_id)")
    tids = {leg["trade"]: leg["tid"] for leg in made.legs if leg["source"] != "node_trades" and leg["trade"] is not None}
    expected = [_expected_fill(leg, tids) for leg in made.legs]
    names = expected[0].keys()
    assert _sorted({name: row[name] for name in names} for row in stored) == _sorted(expected)


def _expected_fill(leg: Leg, tids: dict[int, int]) -> Row:
    """The row of hl.fills that a leg becomes; `tids` by trade, from the legs that know them."""
    fill = {name: value for name, value in leg.items() if name not in ("source", "key", "trade", "is_market")}
    fill |= {"object_key": leg["key"], "time": naive_statistics.moment(leg["time"])}
    if leg["source"] == "node_fills":
        fill["block_time_ns"] = None
    if leg["source"] == "node_trades":
        fill["tid"] = tids.get(leg["trade"])
    return fill


def _sorted(fills: Iterable[Row]) -> list[Row]:
    key = ("time", "coin", "wallet", "side", "oid", "start_position", "px", "sz")
    return sorted(fills, key=lambda fill: (*(fill[name] for name in key), fill["tid"] or 0, fill["counterparty_oid"] or 0))


@pytest.mark.slow
def test_a_day_that_lacks_an_hour_has_the_figures_of_the_others_and_is_not_complete(by_block: Made, world: World) -> None:
    lost = "node_fills_by_block/hourly/20260315/7.lz4"
    (_copied(by_block, world) / lost).unlink()
    make_day(world.environment, DAY)
    legs = [leg for leg in by_block.legs if leg["key"] != lost]
    assert len(legs) < len(by_block.legs)
    for table, naive in NAIVE.items():
        _assert_equal(_stored(world.database_url, table, DAY), naive(legs))
    assert _query(world.database_url, "SELECT DISTINCT is_complete FROM hl.user_stats") == [{"is_complete": False}]


def test_making_the_statistics_again_changes_nothing(by_block: Made) -> None:
    queries = [f"SELECT * FROM hl.{table} ORDER BY {', '.join(key)}" for table, key in KEYS.items()]
    before = [_query(by_block.database_url, query) for query in queries]
    make_day(by_block.environment, DAY, STATISTICS)
    assert [_query(by_block.database_url, query) for query in queries] == before


def test_statistics_before_any_fills_say_that_these_come_first(world: World) -> None:
    [check] = make_day(world.environment, DAY, ["daily_stats"])["daily_stats"].checks
    assert (check.passed, check.description) == (False, "No fills are loaded for this day yet. Materialize fills first.")
    assert world.home


def test_a_day_without_fills_has_no_statistics(world: World) -> None:
    made = make_day(world.environment, date(2024, 1, 1))
    assert failed_checks({name: made[name] for name in STATISTICS}) == set()
    for table in KEYS:
        assert _query(world.database_url, f"SELECT * FROM hl.{table}") == []


@pytest.mark.slow
def test_an_absurd_size_makes_the_sums_of_its_coin_unknown_and_no_others(by_block: Made, world: World) -> None:
    path = _copied(by_block, world) / "node_fills_by_block/hourly/20260315/9.lz4"
    spoilt = next(
        trade
        for trade in naive_statistics.grouped(by_block.legs, lambda leg: leg["trade"]).values()
        if trade[0]["coin"] == "BTC" and trade[0]["key"].endswith("/9.lz4") and len(trade) == 2
    )
    absurd = {"sz": "9999999999999999999999"}
    _rewrite(path, lambda fill: fill.update(absurd if fill["tid"] == spoilt[0]["tid"] else {}))
    assert failed_checks(make_day(world.environment, DAY)) == set()

    wallets = {leg["wallet"] for leg in spoilt}
    minute = naive_statistics.moment(spoilt[0]["time"]).replace(second=0, microsecond=0)
    affected = {"candles": {("BTC", minute)}, "daily_stats": {"BTC"}, "user_stats": wallets}
    for table, keys in affected.items():
        stored, before = _stored(world.database_url, table, DAY), _stored(by_block.database_url, table, DAY)
        assert stored.keys() == before.keys()
        assert {key for key, row in stored.items() if row != before[key]} == keys
    coin = _stored(world.database_url, "daily_stats", DAY)["BTC"]
    assert (coin["volume"], coin["notional"], coin["vwap"]) == (None, None, None)
    counted = {name: value for name, value in coin.items() if name not in SUMS}
    assert counted.items() <= naive_statistics.daily_stats(by_block.legs)["BTC"].items()


@pytest.mark.slow
def test_fills_that_lack_fields_or_say_odd_things_are_counted_as_what_they_say(by_block: Made, world: World) -> None:
    random = Random(5)

    def spoil(fill: dict[str, Any]) -> None:
        if fill["coin"].startswith("#"):
            fill["feeToken"] = random.choice(naive_statistics.STABLE_COINS)
        if random.random() < 0.2:
            fill.update(random.choice(ODDITIES))
        if random.random() < 0.05:
            del fill[random.choice(["fee", "feeToken", "closedPnl", "dir", "twapId"])]

    for path in _copied(by_block, world).rglob("*.lz4"):
        _rewrite(path, spoil)
    assert failed_checks(make_day(world.environment, DAY)) == set()

    legs = [_leg_of_json(user, fill) for _, user, fill in read_bucket(world.bucket) if day_of(fill) == DAY]
    for table, naive in NAIVE.items():
        _assert_equal(_stored(world.database_url, table, DAY), naive(legs))
    for name in ("fees", "fees_in_quote", "vwap"):
        assert {row[name] is None for row in _stored(world.database_url, "daily_stats", DAY).values()} == {False, True}


ODDITIES = (
    *({"dir": name} for name in ("Net Child Vaults", "Settlement", "Merge Question", "Negate Outcome", "Split Outcome")),
    *({"dir": name} for name in ("Splits", "Merge", "settlement", "", "Unheard Of")),
    *({"feeToken": token} for token in ("HYPE", "USDT", "USDE", "usdc")),
    *({"fee": fee} for fee in ("0.0", "-0.0", "-0.0000000001", "123456789.123456789", "-1")),
    *({"sz": sz} for sz in ("0.0", "0.0000000001", "7999999.9999999999")),
    *({"px": px} for px in ("0.0000000001", "123456.1")),
    *({"twapId": number} for number in (None, 0, 7)),
    {"tid": 0},
    {"builder": "0x" + 40 * "b"},
    {"closedPnl": "-99999999.9999999999"},
    {"builderFee": "0.5"},
    {"builder": {"b": "0x" + 40 * "b"}},
    {"builder": None},
    {"liquidation": {"liquidatedUser": "0x" + 40 * "c", "markPx": "1.0", "method": "market"}},
    *({"liquidation": said} for said in ({"markPx": "1.0", "method": "backstop"}, {"method": "market"}, {}, None)),
)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The object at `path` again, each of its fills changed."""
    blocks = [json.loads(line) for line in lz4.frame.decompress(path.read_bytes()).splitlines()]
    for block in blocks:
        for _, fill in block["events"]:
            change(fill)
    path.write_bytes(lz4.frame.compress("".join(json.dumps(block) + "\n" for block in blocks).encode()))


def _leg_of_json(user: str, fill: dict[str, Any]) -> Leg:
    numbers = {name: Decimal(fill[name]) if name in fill else None for name in ("px", "sz", "fee", "closedPnl", "builderFee")}
    return {
        **{name: fill.get(name) for name in ("time", "coin", "side", "dir", "crossed", "tid", "builder")},
        **{name: numbers[name] for name in ("px", "sz", "fee")},
        "closed_pnl": numbers["closedPnl"],
        "wallet": user,
        "source": "node_fills_by_block",
        "fee_token": fill.get("feeToken"),
        "twap_id": fill.get("twapId"),
        "liquidation": fill.get("liquidation"),
        "builder_fee": numbers["builderFee"],
        "trade": (fill["time"], fill["coin"], fill["tid"]),
    }


# What days of several years, months and weeks add up to. Of the first day fees are unknown in part.
OLD_DAYS = (date(2025, 5, 25), date(2025, 5, 26), date(2025, 6, 1))


@dataclass(frozen=True, slots=True)
class Several:
    """A database with the figures of several days, and the naive ones."""

    database_url: str
    daily_stats: dict[date, dict[str, Row]]
    user_stats: dict[date, dict[str, Row]]


@pytest.fixture(scope="module")
def several(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Several:
    directory = tmp_path_factory.mktemp("periods")
    legs: dict[date, list[Row]] = {}
    for first, days in ((OLD_DAYS[0], 2), (OLD_DAYS[2], 1), (DAY, 1)):
        sample = write_sample(directory, first_day=first, days=days, fills_per_hour=20, record_legs=True)
        legs |= {day: read_legs(sample.truth_dir, day) for day in (first + timedelta(days=more) for more in range(days))}
    environment = {
        "HL_HOME": str(directory / "home"),
        "HL_DATABASE_URL": new_database(),
        "HL_LAKE_URL": str(directory / "lake"),
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
    }
    for day in legs:
        make_day(environment, day, ["raw_fills", "fills", *STATISTICS])
    users = {day: naive_statistics.user_stats(of_day) for day, of_day in legs.items()}
    daily = {day: naive_statistics.daily_stats(of_day) for day, of_day in legs.items()}
    for figures in (users, daily):
        for day, of_day in figures.items():
            of_day.update({key: {**row, "is_complete": True if day == DAY else None} for key, row in of_day.items()})
    return Several(environment["HL_DATABASE_URL"], daily, users)


@pytest.mark.slow
@pytest.mark.parametrize("period", naive_statistics.PERIODS)
def test_the_figures_of_a_coin_over_a_period_are_those_of_its_days_together(several: Several, period: str) -> None:
    rows = _query(several.database_url, "SELECT * FROM hl.daily_stats_by(%s)", (period,))
    assert _by_key(rows, ("period_start", "coin")) == naive_statistics.by_period(period, several.daily_stats)


@pytest.mark.slow
@pytest.mark.parametrize("period", naive_statistics.PERIODS)
def test_the_figures_of_a_wallet_over_a_period_are_those_of_its_days_together(several: Several, period: str) -> None:
    rows = _query(several.database_url, "SELECT * FROM hl.user_stats_by(%s)", (period,))
    assert _by_key(rows, ("period_start", "wallet")) == naive_statistics.by_period(period, several.user_stats)


@pytest.mark.slow
def test_the_days_of_periods_know_and_lack_what_a_sum_may(several: Several) -> None:
    months = naive_statistics.by_period("month", several.daily_stats)
    assert {start for start, _ in months} == {date(2025, 5, 1), date(2025, 6, 1), date(2026, 3, 1)}
    assert max(row["days"] for row in months.values()) == 2
    assert {row["fees"] is None for row in months.values()} == {False, True}
    assert {(row["volume"] or 0) > 0 and row["liquidations"] is None for row in months.values()} == {False, True}


@pytest.mark.slow
def test_periods_may_be_of_some_days_and_of_one_wallet_in_any_case(several: Several) -> None:
    first, second = OLD_DAYS[:2]
    two = {day: several.daily_stats[day] for day in (first, second)}
    rows = _query(several.database_url, "SELECT * FROM hl.daily_stats_by('all', %s, %s)", (first, second))
    assert _by_key(rows, ("period_start", "coin")) == naive_statistics.by_period("all", two)
    months = naive_statistics.by_period("month", several.user_stats)
    wallet = max(months, key=lambda key: months[key]["days"])[1]
    query = "SELECT * FROM hl.user_stats_by('month', only_wallet => %s)"
    rows = _query(several.database_url, query, (wallet.upper().replace("0X", "0x"),))
    assert _by_key(rows, ("period_start", "wallet")) == {key: row for key, row in months.items() if key[1] == wallet}


@pytest.mark.parametrize("function", ["daily_stats_by", "user_stats_by"])
@pytest.mark.parametrize("period", ["quarter", "Week", "", None])
def test_an_unknown_period_is_refused_with_the_names_of_the_others(database_url: str, function: str, period: str | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="must be day, week, month, year or all"):
        _query(database_url, f"SELECT * FROM hl.{function}(%s)", (period,))


@pytest.fixture
def real(world: World, samples: Path) -> tuple[World, Path]:
    """The real fills through all assets, each on its day."""
    bucket = samples / "s3/hl-mainnet-node-data"
    for day in (DAY - timedelta(days=1), DAY):
        make_day(world.environment | {"HL_NODE_DATA_URL": str(bucket)}, day)
    return world, bucket


def test_the_figures_of_the_real_fills_are_what_their_json_gives(real: tuple[World, Path]) -> None:
    world, bucket = real
    legs = [_leg_of_json(user, fill) for _, user, fill in read_bucket(bucket)]
    for day in (DAY - timedelta(days=1), DAY):
        of_day = [leg for leg in legs if day_of(leg) == day]
        for table, naive in NAIVE.items():
            _assert_equal(_stored(world.database_url, table, day), naive(of_day))
    assert _query(world.database_url, "SELECT DISTINCT is_complete FROM hl.user_stats") == [{"is_complete": False}]


def test_the_notional_of_the_real_fills_is_that_of_each_trade_once(real: tuple[World, Path]) -> None:
    world, bucket = real
    fills = [fill for _, _, fill in read_bucket(bucket)]
    notional = [Decimal(fill["px"]) * Decimal(fill["sz"]) for fill in fills]
    taken = [amount for amount, fill in zip(notional, fills, strict=True) if fill["crossed"]]
    # Neither half of all rows nor the takers' rows: the dust, 1,298 takers without a maker, is in both.
    assert round(sum(notional) / 2, 2) == Decimal("8561.86")
    assert round(sum(taken), 2) == Decimal("8607.15")
    assert {fill["dir"] for fill in fills if not fill["tid"]} == {"Spot Dust Conversion"}
    once = {
        (fill["time"], fill["coin"], fill["tid"]): amount
        for amount, fill in zip(notional, fills, strict=True)
        if fill["tid"] and fill["crossed"]
    }
    assert set(once) == {(fill["time"], fill["coin"], fill["tid"]) for fill in fills if fill["tid"]}
    assert (len(once), sum(once.values())) == (45, Decimal("8516.57156246"))

    query = "SELECT sum(trades) AS trades, sum(notional) AS notional, sum(non_market_rows) AS dust FROM hl.daily_stats"
    assert _query(world.database_url, query) == [{"trades": 45, "notional": Decimal("8516.57156246"), "dust": 1298}]
    query = "SELECT sum(trades) AS trades, sum(notional) AS notional FROM hl.candles"
    assert _query(world.database_url, query) == [{"trades": 45, "notional": Decimal("8516.57156246")}]
