"""Runs are forks of a process that has loaded Dagster, has no threads, and is not a run itself."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time

import psutil
import pytest

from hl_pipeline.ops.process_groups import _is_run  # pyright: ignore[reportPrivateUsage]

# What Dagster's code server does. The fork ends with the number of its parent's threads, and 10 where Dagster was loaded already.
_CODE_SERVER = """
import multiprocessing, sys
context = multiprocessing.get_context("spawn")
sys.argv = ["dagster", *{arguments}]
import hl_pipeline.definitions
fork = context.Process(target=exec, args=(
    "import os, sys; sys.exit(10 * ('dagster' in sys.modules) + len(os.listdir(f'/proc/{{os.getppid()}}/task')))",
))
fork.start()
fork.join()
print(fork.exitcode)
"""


def _ends_with(*arguments: str) -> int:
    code = _CODE_SERVER.format(arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
def test_a_run_is_told_from_the_process_that_it_is_a_fork_of() -> None:
    process = multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,))
    process.start()
    try:
        run = psutil.Process(process.pid)
        parent = run.parent()
        assert parent is not None
        assert (_is_run(run), _is_run(parent)) == (True, False)
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Dagster starts them anew")
def test_a_code_server_forks_runs_from_a_process_without_threads_that_has_loaded_dagster() -> None:
    assert _ends_with("api", "grpc", "--lazy-load-user-code") == 11


@pytest.mark.slow
def test_no_other_process_forks() -> None:
    assert _ends_with("job", "list") < 10


def test_a_program_that_used_duckdb_ends_without_a_word() -> None:
    code = "import duckdb, hl_pipeline.definitions; duckdb.connect().execute('SELECT 1')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
