"""The webserver warns, once, when it listens where other machines reach it: its UI has no login."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from dagster_webserver.cli import dagster_webserver

from hl_pipeline.ops.exposed_ui import warn_of_exposed_ui
from hl_pipeline_tests.processes import PROJECT, program

_WARNED = "warning: the Dagster UI listens on {} and has no login"


@pytest.mark.parametrize(
    ("arguments", "environment", "warned_of"),
    [
        ([], {}, None),
        (["-h", "127.0.0.1"], {}, None),
        (["--host", "::1"], {}, None),
        (["-h", "localhost"], {}, None),
        (["-h", "0.0.0.0"], {}, "0.0.0.0"),
        (["--host=::"], {}, "::"),
        (["-h", "db.example.com"], {}, "db.example.com"),
        ([], {"DAGSTER_WEBSERVER_HOST": "192.0.2.7"}, "192.0.2.7"),
        (["-h", "0.0.0.0", "--read-only"], {}, None),
    ],
)
def test_a_webserver_warns_of_any_address_but_loopback(
    arguments: list[str], environment: dict[str, str], warned_of: str | None
) -> None:
    warn_of_exposed_ui.cache_clear()
    runner = CliRunner()

    with runner.isolation(env=environment) as (_, stderr, _):
        # With the real options, as the program reads them.
        with dagster_webserver.make_context("dagster-webserver", arguments, auto_envvar_prefix="DAGSTER_WEBSERVER"):
            warn_of_exposed_ui()
            warn_of_exposed_ui()
        sys.stderr.flush()
        said = stderr.getvalue().decode()

    assert [said.count(_WARNED.format(warned_of))] == [int(warned_of is not None)]
    assert (said == "") == (warned_of is None)


def test_other_programs_and_code_servers_do_not_warn(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    @click.option("--host")
    def grpc(host: str) -> None:  # noqa: ARG001
        warn_of_exposed_ui()

    warn_of_exposed_ui.cache_clear()
    grpc.main(["--host", "0.0.0.0"], standalone_mode=False)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_program_itself_warns_before_it_opens_its_database(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT),
        "DAGSTER_HOME": str(tmp_path),
        "HL_SETTINGS_RESOLVED": "1",
    }
    command = [program("dagster-webserver"), "-h", "0.0.0.0", "-p", "1", "-w", str(PROJECT / "workspace.yaml")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stderr.count(_WARNED.format("0.0.0.0")) == 1, done.stderr
