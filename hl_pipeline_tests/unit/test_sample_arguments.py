"""The arguments of `write_sample`: same arguments give the same bytes; progress; the smallest sample; refusals."""

import hashlib
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hl_pipeline.sample.generate import Sample, write_sample

FIRST_DAY = date(2026, 3, 15)


def digests(sample: Sample) -> dict[str, str]:
    """Of all files but the junk, which is the same in every sample."""
    root = sample.node_data_dir.parent
    paths = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith("._")]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, same, other = (
        digests(write_sample(tmp_path / name, first_day=FIRST_DAY, days=1, fills_per_hour=100, seed=seed))
        for name, seed in (("one", 5), ("same", 5), ("other", 6))
    )
    assert one == same
    assert one.keys() == other.keys()
    assert not set(one.values()) & set(other.values())


def test_progress_counts_the_fills_written_so_far(tmp_path: Path) -> None:
    told: list[int] = []
    sample = write_sample(tmp_path, first_day=FIRST_DAY, days=1, fills_per_hour=50, progress=told.append)
    assert told == sorted(told)
    assert (len(told), told[-1]) == (sample.objects, sample.fills)


@pytest.mark.parametrize(("days", "fills_per_hour"), [(0, 100), (1, 0)])
def test_a_sample_of_nothing_is_refused(tmp_path: Path, days: int, fills_per_hour: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        write_sample(tmp_path, first_day=FIRST_DAY, days=days, fills_per_hour=fills_per_hour)


def test_the_smallest_sample_is_whole(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, first_day=FIRST_DAY, days=1, fills_per_hour=1)
    assert sample.objects == 25
    assert pl.read_parquet(sample.truth_dir / "fills.parquet")["rows"].sum() == sample.fills
