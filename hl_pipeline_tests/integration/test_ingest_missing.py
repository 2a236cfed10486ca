"""`hl ingest` and `--missing`: exactly the days with missing or new objects are ingested."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import lz4.frame
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.dirty_days import note_dirty
from hl_pipeline.warehouse.status_queries import read_finished_days
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import World

DAY = date(2026, 3, 15)
NEXT = DAY + timedelta(days=1)
_LATER = date.max
Hl = Callable[..., Done]


@pytest.fixture
def hl(world: World, tmp_path: Path) -> Hl:
    """The command line, on a bucket with one whole day."""
    made = write_sample(tmp_path / "sample", first_day=DAY, days=1, fills_per_hour=20)
    environment = {**world.environment, "HL_NODE_DATA_URL": str(made.node_data_dir)}
    return lambda *words: run_in_process(tmp_path, environment, *words)


@pytest.mark.slow
def test_a_whole_day_is_skipped_and_the_others_are_loaded(hl: Hl) -> None:
    assert hl("ingest", "--from", str(DAY), "--to", str(DAY), "--missing").returncode == 0

    again = hl("ingest", "--from", str(DAY), "--to", str(NEXT), "--missing")

    skipped, *lines = again.stdout.splitlines()
    assert skipped == f"skipped, because nothing is missing: 1 day, {DAY}"
    assert [line.split()[:2] for line in lines] == [[str(NEXT), "incomplete"]]
    assert again.returncode == 3
    # The other day is incomplete still, so it is not skipped the next time; where all are skipped there is nothing to do.
    assert hl("ingest", "--from", str(DAY), "--to", str(DAY), "--missing").stdout.splitlines()[-1] == "nothing to do"


@pytest.mark.parametrize("other", ["--force", "--redownload", "--dirty"])
def test_missing_goes_with_a_span_of_days_alone(hl: Hl, other: str) -> None:
    done = hl("ingest", "--from", str(DAY), "--to", str(DAY), "--missing", other)

    assert done.returncode == 2
    assert "--missing can be combined only with --from and --to" in done.stderr


@pytest.mark.slow
def test_a_day_that_something_is_the_matter_with_is_not_finished(hl: Hl, world: World) -> None:
    assert hl("ingest", "--from", str(DAY), "--to", str(DAY)).returncode == 0
    spoil = [
        "UPDATE hl.fills_days SET state = 'incomplete'",
        "UPDATE hl.fills_days SET state = 'pending'",
        "UPDATE hl.fills_days SET user_stats_at = NULL",
        "UPDATE hl.fills_days SET twaps_at = NULL",
        "UPDATE hl.twap_days SET state = 'incomplete'",
        "UPDATE hl.twap_days SET state = 'pending'",
        "UPDATE hl.s3_ingest_log SET etag = 'another' WHERE object_hour = 9",
        "UPDATE hl.s3_ingest_log SET reset_of = fetched_at WHERE object_hour = 9",
        "DELETE FROM hl.twap_days",
    ]
    with connect(world.database_url) as connection:
        assert read_finished_days(connection, DAY, NEXT, _LATER) == {DAY}
        # Where there are statuses to be had, a day loaded without them is not finished.
        assert read_finished_days(connection, DAY, NEXT, date(2025, 8, 17)) == set()
        for statement in spoil:
            with connection.transaction(force_rollback=True):
                connection.execute(statement.encode())
                assert read_finished_days(connection, DAY, NEXT, _LATER) == set(), statement
        note_dirty(connection, [DAY], "rows of another source")
        assert read_finished_days(connection, DAY, NEXT, _LATER) == set()


def _loaded_at(world: World) -> datetime:
    with connect(world.database_url) as connection:
        [(moment,)] = connection.execute("SELECT loaded_at FROM hl.fills_days WHERE date = %s", [DAY]).fetchall()
    return moment


def _object_of_noon(tmp_path: Path) -> Path:
    return tmp_path / "sample" / f"hl-mainnet-node-data/node_fills_by_block/hourly/{DAY:%Y%m%d}/12.lz4"


@pytest.mark.slow
def test_a_whole_day_of_which_nothing_is_new_is_left_as_it_is(hl: Hl, world: World) -> None:
    span = ["--from", str(DAY), "--to", str(DAY)]
    assert hl("ingest", *span).returncode == 0
    first = _loaded_at(world)

    again = hl("ingest", *span)

    assert again.returncode == 0
    assert again.stdout.splitlines() == [
        f"nothing new, and nothing missing: 1 day, {DAY} (to rebuild them anyway: `hl rebuild --from {DAY} --to {DAY}`)",
        "nothing to do",
    ]
    by_time, by_key = (
        hl("ingest", "--since", "2020-01-01", *span),
        hl("ingest", "--object-key", "node_fills_by_block/hourly/20260315/12.lz4"),
    )
    assert "nothing new" in by_time.stdout
    assert "nothing new" in by_key.stdout
    assert _loaded_at(world) == first
    assert hl("rebuild", *span).returncode == 0
    assert _loaded_at(world) > first


@pytest.mark.slow
def test_a_day_with_a_new_object_or_a_doubt_is_made_again(hl: Hl, world: World, tmp_path: Path) -> None:
    span = ["--from", str(DAY), "--to", str(DAY)]
    assert hl("ingest", *span).returncode == 0
    with connect(world.database_url) as connection:
        connection.execute("UPDATE hl.fills_hours SET proven_at = NULL WHERE hour = 3")
    assert "whole" in hl("ingest", *span).stdout
    assert "nothing new" in hl("ingest", *span).stdout
    # As a run leaves it that was killed when the object was in the lake.
    with connect(world.database_url) as connection:
        connection.execute("UPDATE hl.fills_days SET loaded_at = '2026-01-01'")
    assert "nothing new" not in hl("ingest", *span).stdout

    noon = _object_of_noon(tmp_path)
    content = lz4.frame.decompress(noon.read_bytes())
    noon.write_bytes(lz4.frame.compress(content + b"not a line\n"))

    changed = hl("ingest", *span)

    assert "nothing new" not in changed.stdout
    assert "1 bad lines" in changed.stdout
    # What fails a check is said each time.
    assert hl("ingest", *span).returncode == changed.returncode == 3
