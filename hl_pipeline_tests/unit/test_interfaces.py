"""Protects docs/interfaces.md: it lists every command, table and Dagster name, whether stable or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from dagster import AssetsDefinition
from pydantic import SecretStr
from typer.core import TyperGroup

from hl_pipeline.cli.main import app
from hl_pipeline.data_dictionary import TABLES
from hl_pipeline.definitions import build_defs
from hl_pipeline.settings import Settings

_PAGE = (Path(__file__).parents[2] / "docs" / "interfaces.md").read_text()


def _section(title: str) -> set[str]:
    """What stands in code form in the section."""
    [text] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", _PAGE, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


def test_every_table_is_named() -> None:
    assert set(TABLES) <= _section("PostgreSQL")


def test_every_command_is_named() -> None:
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    groups = [command for command in root.commands.values() if isinstance(command, TyperGroup)]
    commands = {name for group in (root, *groups) for name in group.commands}

    named = {name.removeprefix("hl ") for name in _section("Command line")}

    assert {"up", "ingest", "show", "daily-stats"} <= commands
    assert commands <= named


@pytest.mark.usefixtures("_no_settings_of_the_machine")
def test_the_dagster_names_are_those_of_the_code_location() -> None:
    # With a bucket of statuses and a destination of alerts, so that their sensors are there.
    definitions = build_defs(Settings(twap_data_url="s3://bucket/statuses", alert_urls=SecretStr("json://host")))
    assets = [asset for asset in definitions.assets or () if isinstance(asset, AssetsDefinition)]
    names = {key.to_user_string() for asset in assets for key in asset.keys}
    names |= {spec.name for asset in assets for spec in asset.check_specs}
    names |= {spec.name for checks in definitions.asset_checks or () for spec in checks.check_specs}
    for parts in (definitions.jobs, definitions.sensors, definitions.schedules):
        names |= {part.name for part in parts or ()}

    named = _section("Dagster") - {"hl_pipeline", "raw_api_", "hl/", "YYYY-MM-DD", "00", "ff"}

    assert named == names
