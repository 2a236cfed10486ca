"""`hl backfill` as a user runs it: which wallets it queries, its output and exit codes, and that bad input changes nothing."""

from __future__ import annotations

import io
import json
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import psycopg
import pytest

from hl_pipeline.cli.backfill import BadWalletsError, choose_shards, read_wallets
from hl_pipeline.domain.shards import SHARDS, shard_of
from hl_pipeline_tests.cli import Done, run_in_process, run_program
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.processes import free_port
from hl_pipeline_tests.servers.info_api import InfoServer, User, serve_info

_KNOW = """
INSERT INTO hl.user_stats (date, wallet, fills, non_market_rows, closed_pnl_known, fees_known, coins, twaps,
                           first_fill, last_fill, sources)
SELECT day, wallet, 1, 0, 0, 0, 1, 0, day, day, '{node_fills}'
FROM unnest(%s::text[]) wallet, unnest('{2030-01-01,2030-01-02}'::date[]) day
"""


def _backfill(
    world: World,
    *arguments: str,
    stdin: str = "",
    run: Callable[..., Done] = run_in_process,
    variables: dict[str, str] | None = None,
) -> Done:
    environment = (
        world.environment | {"HL_INFO_WEIGHT_PER_MINUTE": "1000000", "HL_INFO_BACKOFF_SECONDS": "0.01"} | (variables or {})
    )
    return run(Path.cwd(), environment, "backfill", *arguments, stdin=stdin)


def test_the_shards_of_all_workers_are_all_shards_once() -> None:
    for of in (1, 3, 256):
        parts = [choose_shards([], worker, of) for worker in range(1, of + 1)]
        assert sorted(shard for part in parts for shard in part) == list(SHARDS)
    assert choose_shards(["FF", "0a", "ff"], None, None) == ["0a", "ff"]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: choose_shards(["100"], None, None), "--shard is '100'; it must be two hex digits, 00 to ff"),
        (lambda: choose_shards([], 3, 2), "--worker is 3; it must be 1 to 2"),
        (lambda: choose_shards([], 1, None), "--worker I and --of N must be given together"),
        (lambda: choose_shards(["00"], 1, 2), "--shard and --worker exclude each other: each chooses the shards"),
        (lambda: read_wallets(["0x12"], None), "--wallet is '0x12'; it must be 0x and 40 hex digits"),
        (lambda: read_wallets([], "nothing.txt"), "--wallets nothing.txt: [Errno 2]"),
        (lambda: read_wallets([], "-"), "--wallets -: no wallet in it"),
    ],
)
def test_bad_input_is_named(ask: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n  \n"))
    with pytest.raises(BadWalletsError) as error:
        ask()
    assert message in str(error.value)


def test_bad_lines_are_named_by_number_and_nothing_is_asked_or_noted(world: World, connection: psycopg.Connection) -> None:
    done = _backfill(world, "--wallets", "-", stdin="0x" + "a" * 40 + "\nbob\n\n0x" + "b" * 41 + "\n")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "--wallets -: line 2 is 'bob'; line 4 is '0x" + "b" * 41 + "': must be 0x and 40 hex digits" in said
    assert connection.execute("SELECT count(*) FROM hl.backfill_progress").fetchone() == (0,)


@pytest.mark.slow
def test_the_command_asks_for_what_it_is_told_and_says_how_it_stands(
    world: World, connection: psycopg.Connection, samples: Path
) -> None:
    """The real page among others: wallets of a list, some by name, all that the warehouse knows."""
    real = User("0x" + "cd" * 20, json.loads((samples / "user_fills_by_time_page.json").read_bytes()))
    first, last = real.fills[0]["time"], real.fills[-1]["time"]
    window = {
        "HL_BACKFILL_FROM": datetime.fromtimestamp(first / 1000, UTC).isoformat(),
        "HL_BACKFILL_TO": datetime.fromtimestamp((last + 1) / 1000, UTC).isoformat(),
    }
    wallets = ["0x" + random.Random(n).randbytes(20).hex() for n in range(6)]
    connection.execute(_KNOW, [[*wallets[:4], real.wallet]])
    with serve_info(InfoServer({real.wallet: real}, refused={wallets[3]: "no"})) as info:
        asked = {"HL_INFO_URL": info.url, **window}
        listed = f"{wallets[5]}\n\n{real.wallet.upper().replace('0X', '0x')}\n"
        of_file = _backfill(world, "--wallets", "-", stdin=listed, run=run_program, variables=asked)
        assert of_file.returncode == 0, of_file.stdout + of_file.stderr
        assert "2 wallets: 2 complete, 0 truncated, 0 failed, 0 not fetched yet; 2,000 fills" in of_file.stdout
        assert {call.question["user"] for call in info.log} == {wallets[5], real.wallet}
        limited = _backfill(world, "--all", "--limit", "1", "--wallet", wallets[4], "--wallet", wallets[0], variables=asked)
        assert limited.returncode == 3, limited.stdout + limited.stderr
        assert "2 wallets: 1 complete, 0 truncated, 0 failed, 1 not fetched yet; 0 fills" in limited.stdout
        rest = _backfill(world, "--all", variables=asked)
        assert rest.returncode == 1, rest.stdout + rest.stderr
        assert f"{shard_of(wallets[3])}  failed " in rest.stdout
        assert "7 wallets: 6 complete, 0 truncated, 1 failed, 0 not fetched yet; 2,000 fills" in rest.stdout
        status = run_in_process(Path.cwd(), world.environment, "status")
        assert status.returncode == 0
        assert "wallets   backfilled from the info API: 6 complete, 1 failed" in status.stdout
        # Each question about each wallet once, with a page more of the real one; the refused one's slices are not asked for.
        asked_for = [(call.question["user"], call.question["type"]) for call in info.log]
        assert len(asked_for) == len({*asked_for}) + 1 == 3 * 7 - 1 + 1
    days = connection.execute("SELECT date FROM hl.dirty_days ORDER BY 1").fetchall()
    frame = pl.read_parquet(Path(world.settings.lake) / "api_fills/date=*/shard=*.parquet", hive_partitioning=False)
    assert sorted({str(day) for (day,) in days}) == sorted({str(day) for day in frame["time"].dt.date()})
    told = sorted((fill["time"], fill["coin"], fill["side"], fill["tid"], fill["oid"], fill["hash"]) for fill in real.fills)
    kept = frame.with_columns(pl.col("time").cast(pl.Int64), hash="0x" + pl.col("hash").bin.encode("hex"))
    assert sorted(kept.select("time", "coin", "side", "tid", "oid", "hash").rows()) == told


@pytest.mark.slow
def test_an_api_that_does_not_answer_is_named_with_the_attempt_and_the_next_one(world: World) -> None:
    wallet = "0x" + "a" * 40
    url = f"http://127.0.0.1:{free_port()}/info"
    given = {"HL_INFO_URL": url, "HL_INFO_ATTEMPTS": "3"}
    done = _backfill(world, "--wallet", wallet, variables=given)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert f"attempt 1 of 3 failed, next attempt in 0 s: {wallet}: userFillsByTime from " in said
    assert "Connection refused" in said


def test_a_list_of_wallets_may_begin_with_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = "0x" + "a" * 40
    (tmp_path / "wallets").write_text(f"\ufeff{wallet}\n", encoding="utf-8")
    assert read_wallets([], str(tmp_path / "wallets")) == [wallet]
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"\ufeff{wallet}\n"))
    assert read_wallets([], "-") == [wallet]
