"""The checks of `python -m hl_pipeline_tests.tools.reliability`, with a few cases each: docs/reliability.md has many."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.tools.reliability.clock_jumps import jump_clock
from hl_pipeline_tests.tools.reliability.damage import damage_lines, damage_objects
from hl_pipeline_tests.tools.reliability.disk_full import fill_disk
from hl_pipeline_tests.tools.reliability.kills import kill_backfill, kill_compaction, kill_ingest
from hl_pipeline_tests.tools.reliability.outcome import Outcome
from hl_pipeline_tests.tools.reliability.restarts import restart_under_load
from hl_pipeline_tests.tools.reliability.s3_faults import fail_s3

pytestmark = pytest.mark.slow


@pytest.fixture
def place() -> Generator[Path]:
    """A directory that the user who runs PostgreSQL can reach."""
    with tempfile.TemporaryDirectory(prefix="hl-rel-") as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("check", "cases"),
    [
        pytest.param(kill_ingest, 2, id="ingest-killed"),
        pytest.param(kill_compaction, 2, id="compaction-killed"),
        pytest.param(kill_backfill, 2, id="backfill-killed"),
        pytest.param(fail_s3, 8, id="s3-faults"),
        pytest.param(damage_lines, 2_000, id="damaged-lines"),
        pytest.param(damage_objects, 50, id="damaged-objects"),
        pytest.param(fill_disk, 2, id="disk-full"),
        pytest.param(restart_under_load, 12, id="database-restarts"),
        pytest.param(jump_clock, 2, id="clock-jumps"),
    ],
)
def test_no_case_ends_wrong(
    check: Callable[[Path, NewDatabase, Iterable[int]], Outcome], cases: int, place: Path, new_database: NewDatabase
) -> None:
    outcome = check(place, new_database, range(cases))

    assert outcome.wrong == []
    if outcome.measured.startswith("not run"):
        pytest.skip(outcome.measured)
    assert outcome.cases >= cases
