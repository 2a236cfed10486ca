"""The directory that a node writes, or a mirror of the bucket without its compression, is a source like the bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import lz4.frame
import psycopg
import pytest

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.cli import Done, run_in_process
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.naive.fills import event_day, expected_fill, in_order, read_bucket, stored_fills, without
from hl_pipeline_tests.profiles import few

DAY = date(2026, 3, 15)
BOM = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("node"), first_day=DAY, days=1, fills_per_hour=20).node_data_dir


def _lay_out(made: Path, world: World, name: Callable[[int], str], change: Callable[[bytes], bytes] = lambda text: text) -> None:
    for path in made.rglob("*.lz4"):
        target = world.bucket / path.relative_to(made).with_name(name(int(path.stem)))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(change(lz4.frame.decompress(path.read_bytes())))


def _ingest(world: World, *arguments: str) -> Done:
    given = arguments or ("--from", str(DAY), "--to", str(DAY))
    return run_in_process(Path.cwd(), world.environment, "ingest", *given)


def _expected(made: Path, name: Callable[[int], str]) -> list[dict[str, object]]:
    fills = [expected_fill(block, user, fill) for block, user, fill in read_bucket(made)]
    of_day = [fill for fill in fills if event_day(fill) == DAY]
    return in_order([{**fill, "object": _renamed(str(fill["object"]), name)} for fill in of_day])


def _renamed(key: str, name: Callable[[int], str]) -> str:
    path = Path(key)
    return path.with_name(name(int(path.stem))).as_posix()


def _stored(world: World) -> list[dict[str, object]]:
    return in_order(without(stored_fills(world.database_url), "date"))


@pytest.mark.parametrize(
    ("name", "change"),
    few(
        [
            # Two files that were put together, each with its mark.
            pytest.param(str, lambda text: BOM + text.replace(b"\n", b"\n" + BOM, 1), id="marks within"),
            pytest.param(str, lambda text: text, id="plain"),
            pytest.param(lambda hour: f"{hour}.{('jsonl', 'json', 'ndjson')[hour % 3]}", lambda text: text, id="extensions"),
            pytest.param(str, lambda text: BOM + text, id="marks"),
        ],
        1,
    ),
)
def test_a_day_of_plain_files_is_whole_with_every_fill(
    name: Callable[[int], str], change: Callable[[bytes], bytes], made: Path, world: World
) -> None:
    _lay_out(made, world, name, change)
    done = _ingest(world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Whole: 25 objects, no block missing." in done.stdout
    assert "bad lines" not in done.stdout
    assert _stored(world) == _expected(made, name)


@pytest.mark.slow
def test_an_object_of_such_a_directory_can_be_asked_for_by_its_key(made: Path, world: World) -> None:
    _lay_out(made, world, str)
    assert _ingest(world).returncode == 0
    done = _ingest(world, "--object-key", f"node_fills_by_block/hourly/{DAY:%Y%m%d}/9")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_first_day_of_a_directory_that_begins_at_midnight_wants_no_hour_before(made: Path, world: World) -> None:
    def begun_at_midnight(text: bytes) -> bytes:
        """The blocks of before are gone, but for the last, which is one of 10 ms later without fills."""
        blocks = [json.loads(line) for line in text.splitlines()]
        late = [block for block in blocks if block["block_time"] >= str(DAY)]
        if len(late) < len(blocks):
            last = blocks[len(blocks) - len(late) - 1]
            late.insert(0, last | {"block_time": f"{DAY}T00:00:00.010000000", "events": []})
        return b"".join(json.dumps(block).encode() + b"\n" for block in late)

    _lay_out(made, world, str, begun_at_midnight)
    done = _ingest(world)
    assert (done.returncode, "unprovable" in done.stdout) == (3, True), done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    assert "All 25 objects are present (node_fills_by_block), no block missing between them. " in said
    assert (
        "node_fills_by_block has no object for 2026-03-14 23 h, and the first block is at 00:00:00.010000, so an earlier one"
        in said
    )
    # Without the blocks of before, fills stand further up in their object.
    assert without(_stored(world), "ordinal") == without(_expected(made, str), "ordinal")


@pytest.mark.slow
def test_a_file_of_the_directory_is_the_same_a_copy_of_it_cannot_be_compared(made: Path, world: World, tmp_path: Path) -> None:
    key = f"node_fills_by_block/hourly/{DAY:%Y%m%d}/9"
    _lay_out(made, world, str)
    assert _ingest(world).returncode == 0
    same = _ingest(world, "--local-file", str(world.bucket / key))
    assert (same.returncode, f"is {key}: already in the lake" in same.stdout) == (0, True), same.stdout + same.stderr
    copy = tmp_path / "copy"
    copy.write_bytes((world.bucket / key).read_bytes())
    refused = _ingest(world, "--local-file", str(copy), "--as", key)
    assert (refused.returncode, "so it is unknown whether they are the same. To replace it" in refused.stderr) == (2, True)
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert (
        f"the lake already has {key}, with different bytes (it has "
        in _ingest(world, "--local-file", str(copy), "--as", key).stderr
    )


@pytest.mark.slow
def test_files_that_are_not_understood_are_counted_and_named(made: Path, world: World) -> None:
    _lay_out(made, world, lambda hour: f"{hour}.zst" if hour in (3, 4) else f"{hour}.lz4", lz4.frame.compress)
    done = _ingest(world)
    said = " ".join(done.stdout.split())
    assert done.returncode == 3
    assert "2 of 25 objects missing: " in said
    prefix = f"node_fills_by_block/hourly/{DAY:%Y%m%d}"
    names = f"{prefix}/3.zst, {prefix}/4.zst."
    assert f"2 files are ignored (not named like an hour (9.lz4, 9.gz, 9.jsonl, 9.json or 9)): {names}" in said


@pytest.mark.slow
def test_statuses_with_a_mark_or_beside_other_files_lose_nothing(world: World, tmp_path: Path) -> None:
    statuses = tmp_path / "node_twap_statuses_by_block" / "hourly" / f"{DAY:%Y%m%d}"
    statuses.mkdir(parents=True)
    state = {"coin": "BTC", "user": "0x" + "ab" * 20, "side": "B", "sz": "1.0", "executedSz": "0.0", "executedNtl": "0.0"}
    state |= {"minutes": 5, "reduceOnly": False, "randomize": False, "timestamp": 1_773_565_200_000}
    event = {"time": f"{DAY}T09:00:00.000000001", "twap_id": 7, "state": state, "status": "activated"}
    (statuses / "9").write_bytes(BOM + json.dumps(event).encode() + b"\n")
    (statuses / "10.avro").write_bytes(b"?")
    environment = world.environment | {"HL_TWAP_DATA_URL": str(statuses.parent.parent)}
    done = run_in_process(Path.cwd(), environment, "ingest", "--from", str(DAY), "--to", str(DAY))
    said = " ".join(done.stdout.split())
    assert f"1 file is ignored (neither Parquet nor JSON lines by its name): hourly/{DAY:%Y%m%d}/10.avro." in said
    with psycopg.connect(world.database_url) as connection:
        assert connection.execute("SELECT twap_id, time_ns % 10 FROM hl.twap_statuses").fetchall() == [(7, 1)]
