"""The processes of launched runs, forked from one that has loaded Dagster and the code location. No Dagster is imported here."""

from __future__ import annotations

import gc
import multiprocessing
import sys

_LOADED = ["dagster._cli.api", "hl_pipeline.ops.instance", "hl_pipeline.definitions"]


def fork_runs() -> None:
    """Let this code server start its runs as forks of a process that has loaded what each of them needs: 2 s of CPU a run less.

    Dagster starts each from nothing (`spawn`). A fork of the code server itself would inherit its threads in the midst of their
    work. The process between, which multiprocessing starts with the first run, has none: the code location loads neither polars
    nor Arrow. It ends with the code server and its runs; a code location that is reloaded has another one.
    """
    # What is loaded stays: no search for garbage has to look through it, in no fork either.
    gc.freeze()
    if sys.platform == "linux" and sys.argv[1:3] == ["api", "grpc"]:
        multiprocessing.set_forkserver_preload(_LOADED)
        spawn, forkserver = multiprocessing.get_context("spawn"), multiprocessing.get_context("forkserver")
        spawn.Process = forkserver.Process  # pyright: ignore[reportAttributeAccessIssue]
