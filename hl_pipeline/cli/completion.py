"""`hl completion`: prints the script that makes a shell complete commands and options."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer

# Typer's own options would guess the shell from the parent process.
from typer.completion import completion_init, get_completion_script  # pyright: ignore[reportPrivateImportUsage]

_PROGRAM = "hl"
_ASKS_FOR_COMPLETION = "_HL_COMPLETE"


class Shell(Enum):
    """The supported shells."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Your shell.")]) -> None:
    """Print the script that lets a shell complete commands and options.

    In ~/.bashrc: eval "$(hl completion bash)". In ~/.zshrc: eval "$(hl completion zsh)".
    In ~/.config/fish/config.fish: hl completion fish | source.
    """
    typer.echo(get_completion_script(prog_name=_PROGRAM, complete_var=_ASKS_FOR_COMPLETION, shell=shell.value))


def prepare_completion() -> None:
    """Register Typer's completion classes, which answer when the shell asks for completions."""
    if _ASKS_FOR_COMPLETION in os.environ:
        completion_init()
