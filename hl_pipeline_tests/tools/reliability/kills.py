"""SIGKILL at random moments of a day's ingest, of its compaction, and of a backfill from the info API.

After each kill the same work runs again. Then every table and every file of the lake must equal those of an installation in which
nothing was killed. Random moments are spread evenly over the time that the work takes.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import signal
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from pydantic import SecretStr

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.lake.store import open_lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.backfill_progress import add_wallets
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.lake_days import read_lake_days
from hl_pipeline_tests.killable_runs import Death, Place, backfill_shard, compact, ingest, run
from hl_pipeline_tests.servers.info_api import END_MS, START_MS, InfoServer, User, make_user, serve_info
from hl_pipeline_tests.tools.reliability.outcome import Installed, NewDatabase, Outcome, drop_database, find_differences, timed

DAY = date(2026, 3, 15)
SHARD = "a0"
_BACKFILLED_DAYS = 3


def kill_ingest(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Kill the ingest of a day: objects, fills, candles, statistics, TWAP statuses, TWAPs."""
    sample = write_sample(directory / "sample", first_day=DAY, days=1, fills_per_hour=30)

    def place(name: str) -> Place:
        return Place(sample.node_data_dir, directory / name, new_database(), sample.twap_data_dir)

    with timed("SIGKILL during an ingest") as outcome:
        never, seconds = _undisturbed([place("first"), place("never")])
        rng, killed = random.Random(seed), 0
        for case in cases:
            outcome.cases += 1
            mine = place(f"killed-{case}")
            killed += run(mine, DAY, Death(None, seconds=rng.uniform(0.02, 1) * seconds)) == -signal.SIGKILL
            code = run(mine, DAY)
            found = find_differences(_installed(never), _installed(mine)) if code == 0 else [f"the second run ended with {code}"]
            outcome.wrong += [f"case {case}: {line}" for line in found]
            _remove(mine)
        outcome.measured = f"{killed} killed at work, the others just after it; {seconds:.1f} s undisturbed"
    return outcome


def _undisturbed(places: list[Place]) -> tuple[Place, float]:
    """Run the ingest in each place: the first also imports and compiles. Returns the last place, and its seconds."""
    seconds = 0.0
    for place in places:
        started = time.monotonic()
        assert run(place, DAY) == 0
        seconds = time.monotonic() - started
    return places[-1], seconds


def kill_compaction(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Kill compactions of a day that changes from one version to another and back. Readers see one of the two, whole."""
    sample = write_sample(directory / "sample", first_day=DAY, hours=2, fills_per_hour=60)
    hours = sample.node_data_dir / "node_fills_by_block/hourly/20260315"
    contents = [(hours / f"{hour}.lz4").read_bytes() for hour in (0, 1)]
    place = Place(sample.node_data_dir, directory / "lake", new_database())

    def load(version: int) -> None:
        (hours / "0.lz4").write_bytes(contents[version])
        ingest(place, DAY)

    with timed("SIGKILL during a compaction") as outcome:
        whole: list[pl.DataFrame] = []
        seconds = 0.0
        for version in (0, 1, 0, 1):
            load(version)
            started = time.monotonic()
            assert run(place, DAY, work=compact) == 0
            seconds = time.monotonic() - started
            whole.append(_published(place))
        rng, killed = random.Random(seed), 0
        for case in cases:
            outcome.cases += 1
            load(case % 2)
            killed += run(place, DAY, Death(None, seconds=rng.uniform(0.02, 1) * seconds), compact) == -signal.SIGKILL
            if not any(_published(place).equals(version) for version in whole[2:]):
                outcome.wrong.append(f"case {case}: after the kill, readers see neither the old day nor the new one")
            code = run(place, DAY, work=compact)
            if code != 0 or not _published(place).equals(whole[2 + case % 2]):
                outcome.wrong.append(f"case {case}: the second compaction (exit code {code}) does not give the day's rows")
        outcome.measured = f"{killed} killed at work, the others just after it; {seconds:.1f} s undisturbed"
    _remove(place)
    return outcome


def _published(place: Place) -> pl.DataFrame:
    """Return the day's rows as the ledger of compacted days gives them, without the numbers of their objects."""
    with connect(place.database_url, "test") as connection:
        files = read_lake_days(connection, "fills")[DAY].files
    return pl.concat([pl.read_parquet(place.lake / file, hive_partitioning=False) for file in files]).sort(
        "time", "coin", "wallet", "side", "tid"
    )


def kill_backfill(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Kill a shard of wallets whose fills come from the info API."""
    rng = random.Random(seed)
    counts = [0, 2000, 4100, *(rng.choice([0, 0, 1, 3, 10, 60]) for _ in range(57))]
    wallets = (wallet for n in range(10**6) if shard_of(wallet := "0x" + random.Random(n).randbytes(20).hex()) == SHARD)
    users = [_squeeze(User(next(wallets), make_user(f"killed {n}", count).fills)) for n, count in enumerate(counts)]
    info = InfoServer({user.wallet: user for user in users}, seconds=0.001)

    def settings(name: str) -> Settings:
        url = new_database()
        with connect(url, "test") as connection:
            add_wallets(connection, [user.wallet for user in users])
        return Settings(
            database_url=SecretStr(url),
            lake_url=str(directory / name),
            info_url=info.url,
            info_weight_per_minute=1_000_000,
            info_backoff_seconds=0.01,
            backfill_from=datetime.fromtimestamp(START_MS / 1000, UTC),
            backfill_to=datetime.fromtimestamp((END_MS + 1) / 1000, UTC),
        )

    # The server reports each connection that a killed client leaves.
    silent = contextlib.redirect_stderr(io.StringIO())
    with timed("SIGKILL during a backfill from the info API") as outcome, silent, serve_info(info):
        seconds, never = 0.0, settings("first")
        for name in ("first", "never"):
            never = settings(name) if name == "never" else never
            started = time.monotonic()
            assert run(never, SHARD, work=backfill_shard) == 0
            seconds = time.monotonic() - started
        killed = 0
        for case in cases:
            outcome.cases += 1
            mine = settings(f"killed-{case}")
            death = Death(None, seconds=rng.uniform(0.02, 1) * seconds)
            killed += run(mine, SHARD, death, backfill_shard) == -signal.SIGKILL
            code = run(mine, SHARD, work=backfill_shard)
            found = find_differences(_home(never), _home(mine)) if code == 0 else [f"the second run ended with {code}"]
            outcome.wrong += [f"case {case}: {line}" for line in found]
            drop_database(_home(mine).database_url)
            shutil.rmtree(mine.lake, ignore_errors=True)
        outcome.measured = f"{killed} killed at work, the others just after it; {seconds:.1f} s undisturbed"
    return outcome


def _squeeze(user: User) -> User:
    """Return the wallet with its whole history in a few days, so that there are few files to compare."""
    share = _BACKFILLED_DAYS * 86_400_000 / (END_MS - START_MS)
    return User(user.wallet, [fill | {"time": END_MS - int((END_MS - fill["time"]) * share)} for fill in user.fills])


def _installed(place: Place) -> Installed:
    return Installed(place.database_url, place.lake)


def _home(settings: Settings) -> Installed:
    assert settings.database_url is not None
    return Installed(settings.database_url.get_secret_value(), Path(open_lake(settings.lake).root))


def _remove(place: Place) -> None:
    drop_database(place.database_url)
    shutil.rmtree(place.lake, ignore_errors=True)
