"""The chunk size bounds memory, whatever the size of the object or the length of a line."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.naive.fills import write_object
from hl_pipeline_tests.records.reading import read_record

LIMIT_KIB = 1536 * 1024
_DECODE = """
import re, sys
from datetime import date
from pathlib import Path
from hl_pipeline.formats.by_block import decode_chunk
from hl_pipeline.formats.decoding import decode
from hl_pipeline.formats.framing import decompress, whole_lines
from hl_pipeline.lake.fills import write_raw_object
from hl_pipeline.lake.store import open_lake
with Path(sys.argv[1]).open("rb") as stream:
    meta = write_raw_object(open_lake(sys.argv[2]), decode(whole_lines(decompress(stream, "lz4")), decode_chunk, 2),
                            key="k", etag="e", size=0,
                            source="s", object_date=date(2026, 3, 15), hour=0, parser=1)
# Not ru_maxrss, which begins with what the process that started this one had.
[most] = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(meta.rows, meta.bad_lines, most)
"""


def _decode(path: Path, lake: Path) -> tuple[int, int, int]:
    """Of the object, in a process of its own: rows, bad lines, and the most memory (KiB) that it had."""
    done = subprocess.run(
        [sys.executable, "-c", _DECODE, str(path), str(lake)], capture_output=True, text=True, timeout=120, check=True
    )
    rows, bad, memory = map(int, done.stdout.split())
    return rows, bad, memory


@pytest.mark.slow
def test_an_hour_of_a_million_fills_and_a_line_of_two_megabytes_stay_under_the_limit(tmp_path: Path) -> None:
    first = json.loads(read_record("node_fills_by_block_20260315_0.jsonl").splitlines()[0])
    long = {**first, "events": [[user, {**fill, "tid": n}] for n in range(400) for user, fill in first["events"]]}
    line = json.dumps(long, separators=(",", ":")).encode() + b"\n"
    assert len(line) > 2 << 20
    path = write_object(tmp_path, datetime(2026, 3, 15, tzinfo=UTC), line)
    rows, bad, memory = _decode(path, tmp_path / "lake")
    assert (rows, bad) == (len(long["events"]), 0)
    assert memory < LIMIT_KIB

    made = write_sample(tmp_path / "sample", first_day=date(2026, 3, 15), hours=1, fills_per_hour=1_000_000)
    truth = json.loads((made.truth_dir / "days.json").read_text())
    hour = made.node_data_dir / "node_fills_by_block/hourly/20260315/0.lz4"
    rows, bad, memory = _decode(hour, tmp_path / "lake")
    assert rows == truth["objects"]["node_fills_by_block/hourly/20260315/0.lz4"]["rows"] > 950_000
    assert bad == 0
    assert memory < LIMIT_KIB
