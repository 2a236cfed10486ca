"""`hl completion`: what a shell has to read so that Tab completes commands and options."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

# Typer's own options would guess the shell from the process that called.
from typer.completion import completion_init, get_completion_script  # pyright: ignore[reportPrivateImportUsage]

_PROGRAM = "hl"
_ASKS_FOR_COMPLETION = "_HL_COMPLETE"


class Shell(Enum):
    """Those that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Which one you use.")]) -> None:
    """Print the completion of a shell. In ~/.bashrc or ~/.zshrc: eval "$(hl completion bash)", or zsh; in
    ~/.config/fish/config.fish: hl completion fish | source.
    """
    typer.echo(get_completion_script(prog_name=_PROGRAM, complete_var=_ASKS_FOR_COMPLETION, shell=shell.value))


def prepare_completion() -> None:
    """Where it is the shell that asks: Typer's own words for each shell."""
    if _ASKS_FOR_COMPLETION in os.environ:
        completion_init()
