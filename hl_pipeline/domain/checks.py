"""A check of what a stage has made, as a value: decided without Dagster, shown by `assets.checks`, read by the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Figure = int | float | str | list[int] | list[dict[str, str | int]]


@dataclass(frozen=True, slots=True)
class Check:
    """Whether a check passed, and in words why; `is_harmless`: a failure is a warning, not an error; `metadata`: its figures."""

    name: str
    passed: bool
    description: str
    is_harmless: bool = False
    metadata: Mapping[str, Figure] = field(default_factory=dict[str, Figure])


class StageResult(Protocol):
    """What every stage returns, beside its own figures."""

    @property
    def seconds(self) -> float: ...

    @property
    def checks(self) -> Sequence[Check]: ...
