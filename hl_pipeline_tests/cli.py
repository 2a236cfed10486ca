"""Runs `hl` for tests: as a separate program, or in this process, which saves the two seconds of a start.

`run_program` proves the entry point, exit codes and signals; `run_in_process` is for what a command checks, does and prints.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from hl_pipeline.cli.main import main
from hl_pipeline.cli.terminal import set_log_format
from hl_pipeline_tests.marked_secrets import assert_no_secret
from hl_pipeline_tests.processes import program

HL = program("hl")
Done = subprocess.CompletedProcess[str]


def run_program(cwd: Path, environment: dict[str, str], *arguments: str, stdin: str | None = None) -> Done:
    """Run `hl` as a user starts it."""
    done = subprocess.run(
        [HL, *arguments], cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, timeout=180, check=False
    )
    assert_no_secret(done.stdout + done.stderr, f"hl {' '.join(arguments)}")
    return done


def run_in_process(cwd: Path, environment: dict[str, str], *arguments: str, stdin: str | None = None) -> Done:
    """Run the entry point of `hl` in this process with exactly this environment. Changes to the process are undone."""
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", [HL, *arguments]),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
        contextlib.chdir(cwd),
        CliRunner().isolation(input=stdin) as (stdout, stderr, _),
    ):
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
        set_log_format("human")
        shown, told = stdout.getvalue().decode(), stderr.getvalue().decode()
        if arguments[:1] != ("url",):  # it prints the URL for other programs
            assert_no_secret(shown + told, f"hl {' '.join(arguments)}")
        return subprocess.CompletedProcess([HL, *arguments], code, shown, told)
