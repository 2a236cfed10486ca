"""What `make` prints before a silent minute, and that it prints nothing if there is nothing to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_each_step_of_the_setup_is_a_line_and_a_step_that_was_done_is_none(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(_PROJECT / name, tmp_path)
    for name in (".uv/bin/uv", ".venv/bin/hl", ".venv/bin/python"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('#!/bin/sh\necho "$(basename $0) $1"\n')
        file.chmod(0o755)

    # A make that runs the tests would tell this one that it is inside another.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}

    def make_demo() -> list[str]:
        command = ["make", "demo"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    first, second = make_demo(), make_demo()

    assert [line.split()[0] for line in first] == ["Installing", "uv", "python", "Making", "hl"]
    assert first[0].startswith("Installing the packages of uv.lock in .venv")
    assert second == first[3:]
