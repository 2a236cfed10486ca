"""Contributor docs and the code host's workflows: the paths and names in them exist, and they run the project's own commands."""

from __future__ import annotations

import re
import stat
import tomllib
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import AssetsDefinition

from hl_pipeline.data_dictionary import TABLES
from hl_pipeline.definitions import build_defs
from hl_pipeline.settings import Settings

PROJECT = Path(__file__).parents[2]
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
FORMS = sorted((PROJECT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
_SUFFIXES = (".py", ".md", ".sql", ".toml", ".yml", ".yaml", ".lock")
_SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # of Keep a Changelog
_HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def _read(name: str) -> str:
    return (PROJECT / name).read_text()


def _yaml(name: str) -> dict[Any, Any]:
    return yaml.safe_load(_read(name))


def _paths(page: str) -> set[str]:
    """What stands in code form and has the form of a path in the repository."""
    named = re.findall(r"`([\w./-]+)`", re.sub(r"```.*?```", "", _read(page), flags=re.DOTALL))
    return {name for name in named if not name.startswith("/") and ("/" in name or name.endswith(_SUFFIXES))}


@cache
def _names_of_tests() -> set[str]:
    return {path.name for path in (PROJECT / "hl_pipeline_tests").rglob("test_*.py")}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_the_page_names_exists(page: str) -> None:
    named = _paths(page)
    # A file that is still to be written, as NNNN_what.py.
    wanted = {name for name in named if not Path(name).name.startswith("NNNN_")}
    assert len(wanted) > 20
    assert {name for name in wanted if not (PROJECT / name).exists() and name not in _names_of_tests()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_page_has_at_most_250_lines_and_its_links_lead_somewhere(page: str) -> None:
    text = _read(page)
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ ([\w -]+)$", text, re.MULTILINE)}
    assert text.count("\n") <= 250
    for file, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", text):
        assert not file or (PROJECT / file).exists(), file
        assert file or anchor in anchors, anchor


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_capitals_that_the_page_gives_is_in_the_code(page: str) -> None:
    named = set(re.findall(r"`(_?[A-Z][A-Z_]{3,})`", _read(page))) - {"CASE", "HL_HOME"}
    assert named <= _names_of_constants()


@cache
def _names_of_constants() -> set[str]:
    files = (path for folder in ("hl_pipeline", "hl_pipeline_tests", "api") for path in (PROJECT / folder).rglob("*.py"))
    code = "".join(path.read_text() for path in files if path != Path(__file__))
    return set(re.findall(r"\b_?[A-Z][A-Z_]{3,}\b", code))


def test_the_architecture_has_every_package_and_every_table() -> None:
    named = _paths("ARCHITECTURE.md")
    packages = {f"hl_pipeline/{path.parent.name}/" for path in (PROJECT / "hl_pipeline").glob("*/__init__.py")}
    assert packages <= named
    tables = _read("ARCHITECTURE.md")
    assert {name for name in TABLES if f"`{name}`" not in tables} == set()


@pytest.mark.usefixtures("_no_settings_of_the_machine")
def test_the_arrows_between_assets_are_those_of_dagster() -> None:
    assets = [asset for asset in build_defs(Settings()).assets or () if isinstance(asset, AssetsDefinition)]
    depends = {
        (dependency.to_user_string(), key.to_user_string())
        for asset in assets
        for key, dependencies in asset.asset_deps.items()
        for dependency in dependencies
    }
    names = {key.to_user_string() for asset in assets for key in asset.keys}

    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", _read("ARCHITECTURE.md"), re.MULTILINE))

    assert depends
    assert {(first, second) for first, second in drawn if {first, second} <= names} == depends


def test_the_changelog_begins_with_the_version_of_the_project() -> None:
    text = _read("CHANGELOG.md")
    project = tomllib.loads(_read("pyproject.toml"))["project"]["version"]
    [locked] = [one["version"] for one in tomllib.loads(_read("uv.lock"))["package"] if one["name"] == "hl-pipeline"]

    versions = _HEADING.findall(text)

    assert "\n## [Unreleased]\n" in text.partition(f"## [{project}]")[0]
    assert versions[0][0] == project == locked
    days = [date.fromisoformat(day) for _, day in versions]
    assert days == sorted(days, reverse=True)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= _SECTIONS


def test_a_hook_runs_each_check_of_the_makefile_by_the_same_command() -> None:
    [repository] = _yaml(".pre-commit-config.yaml")["repos"]
    makefile = _read("Makefile")
    [lint] = re.findall(r"^lint: setup\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    [types] = re.findall(r"^types: setup\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    checks = re.findall(r"^\t@?\$\(BIN\)/(.+)$", lint + types, re.MULTILINE)

    assert repository["repo"] == "local"
    assert [hook["entry"] for hook in repository["hooks"]] == [f".venv/bin/{check}" for check in checks]
    assert {(hook["language"], hook["pass_filenames"]) for hook in repository["hooks"]} == {("system", False)}


def test_the_workflow_calls_the_gate_and_weekly_the_slow_tests() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    # YAML 1.1 takes the key `on` for true.
    triggers = workflow[True]

    assert _commands(workflow, "gate") == [".ci/run"]
    assert _commands(workflow, "system") == ["make test-system", "make audit sbom"]
    assert (PROJECT / ".ci" / "run").stat().st_mode & stat.S_IXUSR
    assert re.search(r"^test-system:", _read("Makefile"), re.MULTILINE)
    assert "pull_request" in triggers
    assert "push" in triggers
    [weekly] = triggers["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", weekly["cron"])


def test_the_workflow_may_only_read_and_a_newer_commit_cancels_it() -> None:
    workflow = _yaml(".github/workflows/ci.yml")
    steps = [step for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert all("permissions" not in job and job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())
    # By major version where the code host itself publishes it, else by hash.
    for step in steps:
        assert re.fullmatch(r"actions/[\w-]+@v\d+|[\w-]+/[\w./-]+@[0-9a-f]{40}", step["uses"])
    assert {step["with"]["persist-credentials"] for step in steps if "checkout" in step["uses"]} == {False}


def test_the_gate_runs_on_the_oldest_and_the_newest_python_supported() -> None:
    allowed = tomllib.loads(_read("pyproject.toml"))["project"]["requires-python"]
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", allowed)
    assert bounds is not None

    tried = _yaml(".github/workflows/ci.yml")["jobs"]["gate"]["strategy"]["matrix"]["python"]

    assert tried == [f"3.{bounds[1]}", f"3.{int(bounds[2]) - 1}"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_has_what_the_code_host_wants(form: Path) -> None:
    content = yaml.safe_load(form.read_text())
    fields = [field for field in content["body"] if field["type"] != "markdown"]

    assert content["name"]
    assert content["description"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert all(field["attributes"]["label"] for field in fields)
    names = [field["id"] for field in fields]
    assert len(set(names)) == len(names)


def test_a_report_of_a_row_says_wallet_day_object_check_and_status() -> None:
    body = _yaml(".github/ISSUE_TEMPLATE/data.yml")["body"]
    required = {field["id"] for field in body if field.get("validations", {}).get("required")}
    assert {"wallet", "day", "object", "check", "status", "version"} <= required
    assert {form.stem for form in FORMS} == {"bug", "data", "feature"}


def _commands(workflow: dict[Any, Any], job: str) -> list[str]:
    return [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]
