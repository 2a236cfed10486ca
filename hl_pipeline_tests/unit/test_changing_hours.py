"""The mark of a day whose hours are being replaced: it stays exactly as long as some hours may be new and others old."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Literal

import pytest

from hl_pipeline.lake.fills import changing_hours, changing_path
from hl_pipeline.lake.store import Lake, open_lake

_DAY = date(2026, 3, 15)
_Why = Literal["load", "removal", "restoration"]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path))


def _is_marked(lake: Lake) -> bool:
    return Path(lake.root, changing_path(_DAY)).exists()


def _change(lake: Lake, why: _Why, *, fails: bool = False) -> bool:
    """Change hours. Returns whether the day is marked afterwards."""
    with suppress(RuntimeError), changing_hours(lake, _DAY, why):
        assert _is_marked(lake)
        if fails:
            raise RuntimeError
    return _is_marked(lake)


@pytest.mark.parametrize("why", ["load", "removal", "restoration"])
def test_a_day_is_marked_while_its_hours_change_and_after_a_failure(lake: Lake, why: _Why) -> None:
    assert not _change(lake, why)
    assert _change(lake, why, fails=True)
    assert not _change(lake, why)


def test_only_a_load_or_a_removal_takes_away_the_mark_of_a_load(lake: Lake) -> None:
    for whole in ("load", "removal"):
        assert _change(lake, "load", fails=True)
        assert _change(lake, "restoration")
        assert not _change(lake, whole)
