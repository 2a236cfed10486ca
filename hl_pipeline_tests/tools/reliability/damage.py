"""Damaged lines, and objects whose compressed bytes are damaged: nothing crashes, and nothing disappears.

Each line of a readable object is a row (or several), or is in quarantine with its text and the reason; lines without events have
nothing to keep. An object that cannot be read is in the ledger with its error. What to expect is worked out by Python's json, lz4
and pyarrow, not by the pipeline.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import lz4.frame
import polars as pl
import psycopg
import pyarrow.parquet as pq

from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.killable_runs import Place, fetch, run
from hl_pipeline_tests.tools.reliability.outcome import NewDatabase, Outcome, drop_database, timed

DAY = date(2026, 3, 15)
_HOURS = 24
_PIECES = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"0",
    b"-",
    b" ",
    b"null",
    b"}],[",
    b'"twapId":1,',
    b"\xff",
    b"\x00",
    b"1e9",
)
_ERRORS = "SELECT object_key, error FROM hl.s3_ingest_log WHERE error IS NOT NULL"


def damage_lines(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Damage every line of a day's objects of fills at one to three places."""
    count = sum(1 for _ in cases)
    with timed("damaged lines") as outcome:
        made = write_sample(directory / "sample", first_day=DAY, days=1, fills_per_hour=60)
        whole = [line for path in _fill_objects(made.node_data_dir) for line in _lines(lz4.frame.decompress(path.read_bytes()))]
        rng = random.Random(seed)
        damaged = [_damage(rng.choice(whole), rng) for _ in range(count)]
        per_object = -(-count // _HOURS)
        for n, path in enumerate(_fill_objects(made.node_data_dir)[:_HOURS]):
            lines = damaged[n * per_object : (n + 1) * per_object]
            path.write_bytes(lz4.frame.compress(b"".join(line + b"\n" for line in lines)))
        place = Place(made.node_data_dir, directory / "lake", new_database())
        if (code := run(place, DAY, work=fetch)) != 0:
            outcome.wrong.append(f"the fetch ended with {code}")
        sums = Counter[str]()
        for path in _fill_objects(made.node_data_dir)[:_HOURS]:
            outcome.wrong += _lost_lines(path, made.node_data_dir, place, sums)
        outcome.cases = count
        quarantine = f"{sums['bad lines']:,} whole lines and {sums['bad events']:,} events of other lines"
        outcome.measured = f"{sums['rows']:,} rows; in quarantine {quarantine}"
        drop_database(place.database_url)
    return outcome


def damage_objects(directory: Path, new_database: NewDatabase, cases: Iterable[int], seed: int = 1) -> Outcome:
    """Damage the bytes of compressed objects of fills, and of Parquet objects of TWAP statuses."""
    rng = random.Random(seed)
    made = write_sample(directory / "sample", first_day=DAY, days=1, fills_per_hour=40)
    whole = {path: path.read_bytes() for path in _fill_objects(made.node_data_dir)[:_HOURS]}
    whole |= {path: path.read_bytes() for path in made.twap_data_dir.rglob("*.parquet") if not path.name.startswith(".")}
    sums = Counter[str]()
    left = iter(cases)
    with timed("damaged objects") as outcome:
        while batch := [path for path, _ in zip(whole, left, strict=False)]:
            for path in batch:
                path.write_bytes(_damage(whole[path], rng, most=8))
            place = Place(made.node_data_dir, directory / "lake", new_database(), made.twap_data_dir)
            code = run(place, DAY, work=fetch)
            if code != 0:
                how = "a signal, so it crashed" if code < 0 else "an exception"
                outcome.wrong.append(f"after {outcome.cases} objects: the fetch ended with {code} ({how})")
            outcome.cases += len(batch)
            with psycopg.connect(place.database_url) as connection:
                errors = dict(connection.execute(_ERRORS).fetchall())
            for path in batch:
                outcome.wrong += _lost_object(path, made.node_data_dir, made.twap_data_dir, place, errors, sums)
            for path in batch:
                path.write_bytes(whole[path])
            drop_database(place.database_url)
            shutil.rmtree(place.lake, ignore_errors=True)
        refused = f"{sums['refused']:,} refused as a whole, each with its error in the ledger"
        quarantine = sums["bad lines"] + sums["bad events"]
        outcome.measured = f"{refused}; {sums['read']:,} read: {sums['rows']:,} rows, {quarantine:,} entries in quarantine"
    return outcome


def _damage(text: bytes, rng: random.Random, most: int = 3) -> bytes:
    """Replace, insert or remove up to `most` pieces. A newline is never added, so that lines keep their numbers."""
    for _ in range(rng.randint(1, most)):
        at, cut = rng.randrange(len(text) + 1), rng.choice((0, 0, 1, 1, 2, 12))
        piece = rng.choice((rng.choice(_PIECES), bytes([rng.randrange(256)]), b""))
        text = text[:at] + piece.replace(b"\n", b"?") + text[at + cut :]
    return text


def _fill_objects(bucket: Path) -> list[Path]:
    folder = bucket / "node_fills_by_block" / "hourly" / f"{DAY:%Y%m%d}"
    return sorted(folder.glob("*.lz4"), key=lambda path: int(path.stem))


def _lines(content: bytes) -> list[bytes]:
    return content.removesuffix(b"\n").split(b"\n")


def _lost_object(path: Path, bucket: Path, statuses: Path, place: Place, errors: dict[str, str], sums: Counter[str]) -> list[str]:
    """Return what is wrong with a damaged object: it is neither in the lake nor in the ledger, in both, or lacks lines."""
    is_fills = path.is_relative_to(bucket)
    key = str(path.relative_to(bucket if is_fills else statuses))
    error = next((text for known, text in errors.items() if known.endswith(key)), None)
    if error is not None:
        sums["refused"] += 1
        return [] if error.strip() else [f"{key}: an empty error"]
    sums["read"] += 1
    if is_fills:
        return _lost_lines(path, bucket, place, sums)
    try:
        table = pq.read_table(path)
        # Rows with _metadata = true are no statuses.
        names = set(table.column_names) & {"_metadata"}
        rows = sum(row.get("_metadata") is not True for row in table.select([*names]).to_pylist()) if names else table.num_rows
    except Exception as unreadable:  # noqa: BLE001 - whatever pyarrow says, we read it
        return [f"{key}: pyarrow cannot read it ({unreadable}), but it has no error in the ledger"]
    kept = [file for file in place.lake.glob("raw_twap_statuses/*/*.parquet") if _key_of(file) == key]
    if len(kept) != 1:
        return [f"{key}: {len(kept)} files in the lake, and no error in the ledger"]
    taken, bad = pl.read_parquet(kept[0], hive_partitioning=False).height, len(list(_quarantine(kept[0])))
    sums["rows"] += taken
    sums["bad lines"] += bad
    return [] if taken + bad == rows else [f"{key}: {rows} rows became {taken} rows and {bad} entries in quarantine"]


def _key_of(file: Path) -> str:
    return json.loads(pq.read_metadata(file).metadata[b"hl"])["key"]


def _lost_lines(path: Path, bucket: Path, place: Place, sums: Counter[str]) -> list[str]:
    """Return the lines of an object of fills that are neither rows nor in quarantine, or not in the right number."""
    key = path.relative_to(bucket)
    file = place.lake / f"raw_fills/object_date={DAY}/hour={int(path.stem):02}.node_fills_by_block.parquet"
    if not file.exists():
        return [f"{key}: not in the lake, and no error in the ledger"]
    try:
        content = lz4.frame.decompress(path.read_bytes())
    except RuntimeError as error:
        return [f"{key}: lz4 cannot read it ({error}), but the lake has it"]
    rows = Counter(pl.read_parquet(file, columns=["line"], hive_partitioning=False)["line"].to_list())
    bad_events, bad_lines = Counter[int](), dict[int, bytes]()
    for entry, text in _quarantine(file):
        if entry["event"] is None:
            bad_lines[entry["line"]] = text
        else:
            bad_events[entry["line"]] += 1
    sums["rows"] += sum(rows.values())
    sums["bad lines"] += len(bad_lines)
    sums["bad events"] += sum(bad_events.values())
    wrong: list[str] = []
    for number, line in enumerate(_lines(content), 1):
        events = _count_events(line)
        if number in bad_lines:
            is_kept = bad_lines[number] == line and not rows[number] and not bad_events[number]
        else:
            is_kept = not line.strip() or (events is not None and rows[number] + bad_events[number] == events)
        if not is_kept:
            wrong.append(f"{key}, line {number}: {events} events, {rows[number]} rows, {bad_events[number]} bad: {line[:200]!r}")
    meta = json.loads(pq.read_metadata(file).metadata[b"hl"])
    if (meta["rows"], meta["bad_lines"]) != (sum(rows.values()), len(bad_lines) + sum(bad_events.values())):
        wrong.append(f"{key}: its metadata counts {meta['rows']} rows and {meta['bad_lines']} bad lines")
    return wrong


def _quarantine(file: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the entries of the quarantine file next to `file`, each with its text."""
    bad = file.with_suffix("").with_suffix(".bad.jsonl") if file.name.startswith("part-") else file.with_suffix(".bad.jsonl")
    for line in bad.read_text().splitlines() if bad.exists() else []:
        entry = json.loads(line)
        yield entry, base64.b64decode(entry["base64"]) if "base64" in entry else entry["text"].encode("utf-8", "surrogatepass")


def _count_events(line: bytes) -> int | None:
    """Return the number of events of a block, or None if the line is no block."""
    try:
        block = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return len(block["events"]) if isinstance(block, dict) and isinstance(block.get("events"), list) else None
