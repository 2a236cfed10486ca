"""The lake says what its columns mean: in each Parquet file, and in datapackage.json."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hl_pipeline.lake.described import DATAPACKAGE, build_datapackage, write_datapackage
from hl_pipeline.lake.store import Lake
from hl_pipeline.sample.generate import write_sample
from hl_pipeline_tests.conftest import World
from hl_pipeline_tests.days import make_day

DAY = date(2026, 3, 15)
# What the standard allows, from its text (Data Package 2.0).
_NAME = r"[a-z0-9._-]+"
_TYPES = {"string", "number", "integer", "boolean", "object", "array", "date", "time", "datetime", "year", "any"}


def test_the_data_package_keeps_the_rules_of_its_standard() -> None:
    package = build_datapackage()
    assert re.fullmatch(_NAME, package["name"])
    names = [resource["name"] for resource in package["resources"]]
    assert len(names) == len(set(names)) > 0
    for resource in package["resources"]:
        assert re.fullmatch(_NAME, resource["name"])
        assert not resource["path"].startswith(("/", ".", "~"))
        fields = resource["schema"]["fields"]
        assert len({field["name"] for field in fields}) == len(fields)
        assert all(field["type"] in _TYPES and field["description"] for field in fields)
        assert {field.get("format", "binary") for field in fields if field["type"] == "string"} == {"binary"}


def test_the_data_package_is_written_only_when_it_changes(lake: Lake) -> None:
    path = Path(lake.root, DATAPACKAGE)
    assert write_datapackage(lake)
    written = path.stat().st_ino
    assert not write_datapackage(lake)
    assert path.stat().st_ino == written
    path.write_text("{}")
    assert write_datapackage(lake)
    assert json.loads(path.read_text()) == build_datapackage()
    assert [path.name for path in Path(lake.root).iterdir()] == [DATAPACKAGE]


@pytest.mark.slow
def test_each_file_of_a_loaded_day_says_what_its_columns_mean(world: World, tmp_path: Path) -> None:
    sample = write_sample(tmp_path, first_day=DAY, fills_per_hour=100)
    environment = {
        **world.environment,
        "HL_NODE_DATA_URL": str(sample.node_data_dir),
        "HL_TWAP_DATA_URL": str(sample.twap_data_dir),
    }
    make_day(environment, DAY)
    lake = Path(world.environment["HL_LAKE_URL"])
    package = json.loads((lake / DATAPACKAGE).read_text())
    assert package == build_datapackage()
    of_table = {r["name"]: {field["name"]: field for field in r["schema"]["fields"]} for r in package["resources"]}
    of_table["twap_slices"] = of_table["fills"]
    read: set[str] = set()
    for path in (path for path in lake.rglob("*.parquet") if "partials" not in path.parts):
        table = path.relative_to(lake).parts[0]
        read.add(table)
        for field in pq.read_schema(path):
            known = of_table[table][field.name]
            notes = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
            assert notes.pop("meaning") == known["description"], (path, field.name)
            assert notes.pop("unit", None) == known.get("unit"), (path, field.name)
    assert read == {"fills", "raw_fills", "twap_statuses", "raw_twap_statuses", "twap_slices"}
    for resource in package["resources"]:
        assert list(lake.glob(resource["path"])) or resource["name"] == "api_fills"
    [px] = [field for field in pq.read_schema(next(lake.glob("fills/*/*.parquet"))) if field.name == "px"]
    assert px.metadata == {b"unit": b"quote per coin", b"meaning": b"Price."}
