"""Protects deploy/systemd: the units run the commands of `hl up`, and systemd accepts them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.tools.write_units import UNITS, make_units


def test_the_units_are_those_that_make_units_writes() -> None:
    assert {path.name: path.read_text() for path in UNITS.iterdir()} == make_units()


def test_each_unit_runs_a_program_of_the_environment_that_is_there() -> None:
    for name, text in make_units(PROJECT).items():
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - a key of systemd is written as it is
        unit.read_string(text)
        assert Path(unit["Service"]["ExecStart"].split()[0]).exists(), name
        # What `hl up` takes for a workspace, and where uvicorn finds the API.
        for word in unit["Service"]["ExecStart"].split():
            assert not word.startswith(str(PROJECT)) or Path(word).exists(), (name, word)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (make system-packages)")
def test_systemd_finds_nothing_wrong_of_the_units(tmp_path: Path) -> None:
    # With the programs of this environment: it looks whether they can be run.
    for name, text in make_units(PROJECT).items():
        (tmp_path / name).write_text(text)
    paths = sorted(tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # It does find what is wrong.
    paths[0].write_text(paths[0].read_text().replace("KillMode=mixed", "KillMode=gently"))
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    assert "kill mode" in done.stderr
