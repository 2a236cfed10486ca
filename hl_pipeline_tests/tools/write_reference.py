"""`python -m hl_pipeline_tests.tools.write_reference`: the generated pages of docs/reference, from the code they describe.

Commands and settings are here; tables are in `reference_tables`, the REST API is in `reference_rest`. A test compares the pages.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import typer.main
from annotated_types import Ge, Gt, Le, Lt
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup

from api.settings import ApiOptions
from hl_pipeline.cli.main import app
from hl_pipeline.settings import Settings, reveal, variable
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.tools.markdown_tables import table
from hl_pipeline_tests.tools.reference_rest import rest_pages
from hl_pipeline_tests.tools.reference_tables import table_pages

REFERENCE = PROJECT / "docs" / "reference"
NOTE = "<!-- Written by `make reference` from the code. Do not edit. -->\n\n"
# The pages of commands: each title, and the commands on that page in order.
_COMMAND_PAGES = {
    "cli-run": ("Commands: run", ("up", "worker", "api", "api-key", "alert-test", "mcp", "demo", "sample", "url", "completion")),
    "cli-load": (
        "Commands: load days and wallets",
        ("cost", "ingest", "backfill", "rebuild", "drop", "acknowledge", "reset checkpoint"),
    ),
    "cli-show": (
        "Commands: look at the data",
        ("status", "show fills", "show daily-stats", "show user-stats", "show twaps", "show checkpoints"),
    ),
    "cli-export": ("Commands: files for others", ("export tax",)),
    "cli-maintain": ("Commands: maintain", ("backup", "restore", "upgrade")),
    "cli-lake": (
        "Commands: the compacted lake",
        ("lake snapshots", "lake files", "lake query", "lake verify", "lake vacuum", "lake relocate"),
    ),
}
# The sections of the settings page, each with the prefixes of its variables.
_SETTING_SECTIONS = {
    "Installation": ("home", "database_url", "dagster_database_url", "lake_url", "disk_reserve_gb", "fills_keep_days"),
    "Days at rest": ("compact_", "hours_keep_days", "snapshots_"),
    "Buckets": ("node_data_", "twap_data_"),
    "Money and requests": ("s3_",),
    "The info API": ("info_", "egress", "backfill_"),
    "Completeness": ("publish_lag_hours", "twap_publish_lag_hours", "max_lag_hours", "bad_lines_max_share"),
    "Runs and automation": (
        "sensors",
        "sensor_seconds",
        "reconcile_cron",
        "runs_",
        "decode_threads",
        "swap_wait_seconds",
    ),
    "Several machines": ("launcher", "broker_url"),
    "Dagster UI": ("port", "path_prefix"),
    "REST API": ("api_",),
    "Alerts and logs": ("alert_urls", "ui_url", "log_format"),
}
_BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def reference_pages() -> dict[str, str]:
    """Return the text of each generated page by file name."""
    pages = {**_command_pages(), "settings": _settings_page(), **table_pages(), **rest_pages()}
    return {f"{name}.md": NOTE + _with_links(text) for name, text in pages.items()}


def _with_links(text: str) -> str:
    """A page of docs that the code names becomes a link."""
    return re.sub(r"\bdocs/((?:[\w-]+/)*([\w-]+)\.md)", lambda found: f"[{found[2]}](../{found[1]})", text)


def commands() -> dict[str, Any]:
    """Return each command of `hl` by name. Commands of groups have names like `show fills`."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    named: dict[str, Any] = {}
    for name, command in root.commands.items():
        inner = command.commands if isinstance(command, TyperGroup) else {"": command}
        named |= {f"{name} {own}".strip(): sub for own, sub in inner.items()}
    return named


def _command_pages() -> dict[str, str]:
    found = commands()
    placed = [name for _, names in _COMMAND_PAGES.values() for name in names]
    assert sorted(placed) == sorted(found), "each command has one page: _COMMAND_PAGES"
    pages = {
        page: f"# {title}\n\n" + "\n\n".join(_command(name, found[name]) for name in names) + "\n"
        for page, (title, names) in _COMMAND_PAGES.items()
    }
    rows = [
        (f"[`hl {name}`]({page}.md#hl-{name.replace(' ', '-')})", _first_sentence(found[name].help))
        for page, (_, names) in _COMMAND_PAGES.items()
        for name in names
    ]
    return pages | {"cli": f"# Commands\n\n{_CLI}\n{table(('command', 'what it does'), rows)}\n"}


_CLI = """`hl COMMAND --help` shows the same. `--demo` works with every command, before or after it. [Stable
interfaces](../interfaces.md#command-line) lists the exit codes.
"""


def _command(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    line = " ".join(["hl", name, *(_argument(parameter) for parameter in arguments), *(["[OPTIONS]"] if options else [])])
    # A line break in the help that does not begin a paragraph comes from the source's line length.
    words = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", command.help or ""))
    parts = [f"## hl {name}\n\n```text\n{line}\n```\n\n{words}"]
    if arguments:
        rows = [(f"`{parameter.metavar or parameter.name.upper()}`", parameter.help or "") for parameter in arguments]
        parts.append(table(("argument", "meaning"), rows))
    if options:
        rows = [(_option(parameter), _default(parameter), parameter.help or "") for parameter in options]
        parts.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    names = [f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts)]
    value = "" if parameter.is_flag else f" `{parameter.metavar or parameter.name.upper()}`"
    return ", ".join(names) + value + (" (repeatable)" if parameter.multiple else "")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return (
        ""
        if parameter.default in (None, False, [], ()) or callable(parameter.default)
        else f"`{getattr(parameter.default, 'value', parameter.default)}`"
    )


def _first_sentence(text: str | None) -> str:
    return re.split(r"(?<=[^.]\.)\s", " ".join((text or "").split()))[0]


def _settings_page() -> str:
    left = dict(Settings.model_fields)
    parts = [f"# Settings\n\n{_SETTINGS}"]
    for title, beginnings in _SETTING_SECTIONS.items():
        own = [
            name for name in left if any(name == start or (start[-1] == "_" and name.startswith(start)) for start in beginnings)
        ]
        rows = [_setting(name, left.pop(name)) for name in own]
        parts.append(f"## {title}\n\n{table(('variable', 'default', 'meaning', 'limits'), rows)}")
    assert not left, f"each setting has a section, _SETTING_SECTIONS: {sorted(left)}"
    assert set(ApiOptions.model_fields) <= set(Settings.model_fields)
    return "\n\n".join(parts) + "\n"


_SETTINGS = """Set them as environment variables, in `.env`, or in `hl.toml`. The command line wins over the environment, the
environment over `.env`, and `.env` over `hl.toml`. Both files are read from the working directory. In `hl.toml` the names
have no `HL_` and are lower case.

`.env.example` at the top of the repository has all of them to copy. `hl status` shows the ones you changed, and
`hl status --settings` all in force, with passwords hidden. An unknown `HL_*` name gives a warning.

AWS's own variables (`AWS_PROFILE`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, …) are read from the
environment only."""


def _setting(name: str, field: Any) -> tuple[str, ...]:
    default = "" if field.default in (None, PydanticUndefined, "") else f"`{reveal(field.default)}`"
    limits = [
        f"{sign} {_plain(getattr(bound, of))}"
        for bound in field.metadata
        for kind, (sign, of) in _BOUNDS.items()
        if isinstance(bound, kind)
    ]
    return f"`{variable(name)}`", default, field.description or "", ", ".join(limits)


def _plain(number: object) -> str:
    return f"{number:,}" if isinstance(number, (int, float, Decimal)) else str(number)


def main() -> None:
    """Write the pages."""
    for name, text in reference_pages().items():
        (REFERENCE / name).write_text(text)


if __name__ == "__main__":
    main()
