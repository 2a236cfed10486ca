"""The result of a check as a plain value, without Dagster. `assets.checks` shows it; the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Figure = int | float | str | list[int] | list[dict[str, str | int]]


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a check passed, with a description. `is_harmless`: a failure is a warning, not an error."""

    name: str
    passed: bool
    description: str
    is_harmless: bool = False
    metadata: Mapping[str, Figure] = field(default_factory=dict[str, Figure])


class StageResult(Protocol):
    """What every stage returns in addition to its own values."""

    @property
    def seconds(self) -> float: ...

    @property
    def checks(self) -> Sequence[Check]: ...
