"""All exit codes of `hl`."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hl_pipeline.ops.run_days import Outcome


class ExitCode(IntEnum):
    """The exit codes, which scripts may rely on."""

    WHOLE = 0
    """Done. All days and wallets are complete."""

    FAILED = 1
    """Failed, wholly or in part: for example, a day failed, or the database or a bucket cannot be reached."""

    USAGE = 2
    """A wrong option, argument or setting. Nothing was done."""

    INCOMPLETE = 3
    """Loaded or written, but a day or a wallet is incomplete."""

    INTERRUPTED = 130
    """Interrupted by Ctrl-C: 128 plus the number of SIGINT, as in shells. The same command continues."""

    @classmethod
    def of(cls, outcome: Outcome) -> ExitCode:
        return cls[outcome.name]
