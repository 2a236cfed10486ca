"""A shard of wallets that is killed anywhere resumes: the rows are the same, and finished wallets are not queried again."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from hl_pipeline.domain.shards import shard_of
from hl_pipeline.events import is_event
from hl_pipeline.lake.store import open_lake
from hl_pipeline.settings import Settings
from hl_pipeline.sources.open import open_info_api
from hl_pipeline.stages.fetch_shards import WalletSelection, fetch_shard
from hl_pipeline.warehouse.backfill_progress import add_wallets
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.info_api import END_MS, START_MS, Call, FreeBudget, InfoServer, User, make_user, serve_info

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["hl_pipeline_tests.system.test_killed_shards"])
_SHARD = "a0"
_DAYS = 3
_WHEN_WRITTEN = -1.0
_ROWS = """
SELECT wallet, state, fills, bad, oldest, newest, reason, error, requests > 0 FROM hl.backfill_progress ORDER BY wallet
"""


@pytest.fixture(scope="module")
def users() -> list[User]:
    """400 wallets of one shard: most with a few fills, some with pages of them, some whose history begins out of reach."""
    rng = random.Random(7)
    counts = [0, 2000, 4100, 10_050, *(rng.choice([0, 0, 1, 3, 10, 60]) for _ in range(396))]
    wallets = (wallet for n in range(10**6) if shard_of(wallet := "0x" + random.Random(n).randbytes(20).hex()) == _SHARD)
    histories = [make_user(f"killed {n}", count) for n, count in enumerate(counts)]
    return [_squeezed(User(next(wallets), user.fills)) for user in histories]


def _squeezed(user: User) -> User:
    """The history in the last days of the window."""
    share = _DAYS * 86_400_000 / (END_MS - START_MS)
    return User(user.wallet, [fill | {"time": END_MS - int((END_MS - fill["time"]) * share)} for fill in user.fills])


def _settings(database_url: str, lake: Path, url: str) -> Settings:
    return Settings(
        database_url=SecretStr(database_url),
        lake_url=str(lake),
        info_url=url,
        info_weight_per_minute=1_000_000,
        info_backoff_seconds=0.01,
        backfill_from=datetime.fromtimestamp(START_MS / 1000, UTC),
        backfill_to=datetime.fromtimestamp((END_MS + 1) / 1000, UTC),
    )


class _Reaper(logging.Handler):
    """Kills this process when the shard is in the lake and nothing else knows of it."""

    def emit(self, record: logging.LogRecord) -> None:
        if is_event(record) and record.event == "shard_written":
            os.kill(os.getpid(), signal.SIGKILL)


def _bring(settings: Settings, seconds: float | None) -> None:
    """A shard, as its asset brings it, in a process that is killed after so long (-1: when the lake was written)."""
    if seconds == _WHEN_WRITTEN:
        logging.getLogger("hl_pipeline").setLevel(logging.INFO)
        logging.getLogger("hl_pipeline").addHandler(_Reaper())
    elif seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    assert settings.database_url is not None
    with connect(settings.database_url.get_secret_value()) as connection:
        # The budget of weight has tests of its own, with processes that are killed.
        api = open_info_api(settings, FreeBudget())
        fetch_shard(_SHARD, WalletSelection(), api, open_lake(settings.lake), connection, settings)


def _run(settings: Settings, seconds: float | None = None) -> int | None:
    process = _CONTEXT.Process(target=_bring, args=(settings, seconds))
    process.start()
    process.join(120)
    return process.exitcode


def _kept(settings: Settings) -> tuple[list[tuple[object, ...]], pl.DataFrame, list[object]]:
    """What database and lake have in the end: progress, every row, the ledger."""
    assert settings.database_url is not None
    lake = Path(settings.lake)
    assert [path for path in lake.rglob(".*") if path.is_file()] == []
    with psycopg.connect(settings.database_url.get_secret_value(), options="-c timezone=UTC") as connection:
        assert connection.execute("SELECT count(*) FROM hl.backfill_pages").fetchone() == (0,)
        rows = connection.execute(_ROWS).fetchall()
        ledger = connection.execute("SELECT object_id, object_key, etag, rows FROM hl.s3_ingest_log ORDER BY 1").fetchall()
        dirty = connection.execute("SELECT date FROM hl.dirty_days ORDER BY 1").fetchall()
    files = sorted(lake.glob("api_fills/date=*/shard=*.parquet"))
    assert [str(day) for (day,) in dirty] == [path.parent.name.removeprefix("date=") for path in files]
    frames = [pl.read_parquet(path, hive_partitioning=False) for path in files]
    return rows, pl.concat(frames), [*ledger]


def _name(connection: psycopg.Connection) -> sql.Identifier:
    return sql.Identifier(connection.info.dbname)


def _asked_again(log: list[Call], ended: set[str]) -> set[str]:
    return {call.question["user"] for call in log} & ended


@pytest.mark.slow
def test_a_shard_that_was_killed_five_times_ends_as_one_that_never_was(
    users: list[User], tmp_path: Path, new_database: NewDatabase
) -> None:
    info = InfoServer({user.wallet: user for user in users}, seconds=0.004)
    with serve_info(info):
        kept: list[tuple[list[tuple[object, ...]], pl.DataFrame, list[object]]] = []
        taken = 0.0
        for name, kills in (("never", 0), ("five times", 5)):
            settings = _settings(new_database(), tmp_path / name, info.url)
            assert settings.database_url is not None
            with connect(settings.database_url.get_secret_value()) as connection:
                # It is the process that dies, not the server.
                connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(_name(connection)))
                add_wallets(connection, [user.wallet for user in users])
                started = time.monotonic()
                for kill in range(kills):
                    done = connection.execute("SELECT wallet FROM hl.backfill_progress WHERE ended_at IS NOT NULL").fetchall()
                    before = len(info.log)
                    seconds = taken * random.Random(kill).uniform(0.1, 0.2) if kill < kills - 1 else _WHEN_WRITTEN
                    assert _run(settings, seconds) == -signal.SIGKILL
                    assert _asked_again(info.log[before:], {wallet for (wallet,) in done}) == set()
                assert kills == 0 or connection.execute("SELECT count(ended_at) > 50 FROM hl.backfill_progress").fetchone() == (
                    True,
                )
                assert _run(settings) == 0
                taken = time.monotonic() - started
            kept.append(_kept(settings))
    never, five_times = kept
    assert five_times[0] == never[0]
    assert five_times[1].equals(never[1])
    assert five_times[2] == never[2]
    truth = {user.wallet: len(user.reachable()) for user in users}
    assert dict(never[1].group_by("wallet").len().iter_rows()) == {wallet: count for wallet, count in truth.items() if count}
    assert [row[0] for row in never[0] if row[1] == "truncated"] == [users[3].wallet]
