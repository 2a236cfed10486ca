"""The exit codes of `hl`, all of them."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hl_pipeline.ops.run_days import Outcome


class ExitCode(IntEnum):
    """What a program that started `hl` may rely on."""

    WHOLE = 0
    """It did what it was asked for; of days and wallets: all are whole."""

    FAILED = 1
    """Nothing, or not all, could be done: a day or a wallet failed, the database or a bucket is out of reach, …"""

    USAGE = 2
    """A wrong option, or a setting that cannot be. Nothing was done."""

    INCOMPLETE = 3
    """Loaded, but something is missing in a day, or of a wallet."""

    INTERRUPTED = 130
    """Ctrl-C, as shells have it: 128 and the number of SIGINT. The same again goes on."""

    @classmethod
    def of(cls, outcome: Outcome) -> ExitCode:
        return cls[outcome.name]
