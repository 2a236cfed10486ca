"""Compares two lakes (directories), file by file. The only thing it knows of the pipeline is the key of its metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from hl_pipeline_tests.tools.compare_rows import Compared, Difference, compare_rows, show_pair
from hl_pipeline_tests.tools.not_compared import how_as_a_whole, value_as_compared

_META_KEY = b"hl"
_ARROW_KEY = b"ARROW:schema"
"""The metadata key with a copy of the file's schema. The schema and the other metadata are compared separately."""
# Rows are compared in order. A row is named by the first of these keys whose columns are all in the file.
_KEYS = (
    ("time", "coin", "wallet", "side", "tid", "oid"),
    ("time", "coin", "wallet", "side", "oid"),
    ("twap_id", "status", "time_ns"),
)


def compare_lakes(left: Path, right: Path, limit: int) -> Iterator[Compared]:
    """Compare every file of two lakes: paths, then for Parquet schema, layout, metadata and rows in order, else the content."""
    paths = _list_files(left), _list_files(right)
    files_of_ids = _files_of_ids(left, paths[0]), _files_of_ids(right, paths[1])
    for path in sorted({*paths[0], *paths[1]}):
        group = f"lake {path.partition('/')[0]}"
        if path not in paths[0] or path not in paths[1]:
            yield Compared(group, path, 0, [Difference(f"file {'left' if path in paths[0] else 'right'} only", 1)])
        elif path.endswith(".parquet"):
            yield _compare_parquet(group, path, (left / path, right / path), files_of_ids, limit)
        else:
            texts = [_read_text(root / path, ids) for root, ids in zip((left, right), files_of_ids, strict=True)]
            yield Compared(group, path, 0, _compare_lines(texts[0], texts[1], limit))


def _list_files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _files_of_ids(root: Path, paths: list[str]) -> dict[str, str]:
    """Return the path of each file by the random ID in its own metadata."""
    records = {path: _own_metadata(pq.read_metadata(root / path)) for path in paths if path.endswith(".parquet")}
    return {record["id"]: path for path, record in records.items() if isinstance(record.get("id"), str)}


def _own_metadata(metadata: pq.FileMetaData) -> dict[str, Any]:
    return json.loads((metadata.metadata or {}).get(_META_KEY, b"{}"))


def _compare_parquet(
    group: str, path: str, files: tuple[Path, Path], files_of_ids: tuple[dict[str, str], dict[str, str]], limit: int
) -> Compared:
    left, right = (pq.read_metadata(file) for file in files)
    found = _compare_values("schema", _describe_schema(files[0], left), _describe_schema(files[1], right))
    found += _compare_values(
        "metadata", *(value_as_compared(_own_metadata(m), ids) for m, ids in zip((left, right), files_of_ids, strict=True))
    )
    others = [
        {name.decode(): value for name, value in (m.metadata or {}).items() if name not in (_META_KEY, _ARROW_KEY)}
        for m in (left, right)
    ]
    found += _compare_values("metadata beside hl", *others)
    frames = [pl.read_parquet(file, hive_partitioning=False) for file in files]
    if how_as_a_whole(group) == "in any order":
        frames = [_sort(frame) for frame in frames]
    key = next((key for key in _KEYS if set(key) <= set(frames[0].columns)), ())
    found += compare_rows(frames[0], frames[1], key, limit)
    # The layout comes last: if rows differ, their layout does not matter.
    found += _compare_values("layout", _describe_layout(left), _describe_layout(right))
    return Compared(group, path, max(frame.height for frame in frames), found)


def _sort(frame: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by all columns without lists, and the items of lists as text."""
    lists = [
        pl.Series(name, [items and sorted(map(str, items)) for items in frame[name].to_list()])
        for name, dtype in frame.schema.items()
        if dtype == pl.List
    ]
    # One column is not enough: a builder has a row for each coin.
    return frame.with_columns(lists).sort([name for name, dtype in frame.schema.items() if not dtype.is_nested()])


def _describe_schema(file: Path, metadata: pq.FileMetaData) -> dict[str, object]:
    """Return the columns in order, each with its type in Arrow and in Parquet."""
    arrow = pq.read_schema(file)
    parquet = [metadata.schema.column(n) for n in range(metadata.num_columns)]
    columns: dict[str, object] = {column.path: f"{column.physical_type} {column.logical_type}" for column in parquet}
    columns |= {
        f"{field.name} in Arrow": f"{field.type}{'' if field.nullable else ' not null'} {field.metadata or ''}" for field in arrow
    }
    return {"columns": arrow.names, **columns}


def _describe_layout(metadata: pq.FileMetaData) -> dict[str, object]:
    """Return the rows of each row group, and the compression, encodings and statistics of each column."""
    layout: dict[str, object] = {}
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    for group in groups:
        for chunk in (group.column(n) for n in range(group.num_columns)):
            # The order of the listed encodings has no meaning.
            form = f"{chunk.compression} {sorted(set(chunk.encodings))} {'with' if chunk.is_stats_set else 'without'} statistics"
            layout[chunk.path_in_schema] = f"{layout[chunk.path_in_schema]}; {form}" if chunk.path_in_schema in layout else form
    return {"rows of row groups": [group.num_rows for group in groups], **layout}


def _compare_values(what: str, left: dict[str, Any], right: dict[str, Any]) -> list[Difference]:
    found: list[Difference] = []
    for name in dict.fromkeys([*left, *right]):
        if name not in left or name not in right:
            side, value = ("left", left[name]) if name in left else ("right", right[name])
            found.append(Difference(f"{what} {name}: {side} only", 1, [repr(value)[:200]]))
        elif left[name] != right[name]:
            found.append(Difference(f"{what} {name}", 1, [show_pair(left[name], right[name])]))
    if not found and list(left) != list(right):
        found.append(Difference(f"{what}: order of names", 1, [show_pair(list(left), list(right))]))
    return found


def _read_text(file: Path, files_of_ids: dict[str, str]) -> list[str]:
    """Return the lines of a file. JSON is prepared for comparison, with a line for each item of a list."""
    text = file.read_bytes().decode("utf-8", "backslashreplace")
    if file.suffix != ".json":
        return text.splitlines(keepends=True)
    value = value_as_compared(json.loads(text), files_of_ids)
    return [json.dumps(item) for item in (value if isinstance(value, list) else [value])]


def _compare_lines(left: list[str], right: list[str], limit: int) -> list[Difference]:
    differing = [(n, a, b) for n, (a, b) in enumerate(zip_longest(left, right), 1) if a != b]
    if not differing:
        return []
    return [Difference("lines", len(differing), [f"{n}: {show_pair(a, b)}" for n, a, b in differing[:limit]])]
