"""The number of random cases in a test: few in `make test` (profile ci), fewer in `make quick`, all in `make test-system` (full),
and twenty times as many in `make reliability`. `pytest --hypothesis-profile` selects a profile; conftest registers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

FULL = 50
"""Default number of examples of a property test in the profile full."""


def scaled(full: int) -> int:
    """Scale a number of cases from the profile full to the current profile. Returns at least 1."""
    return max(1, full * settings().max_examples // FULL)


def examples(full: int) -> settings:
    """Return settings for a property test that draws `full` examples in the profile full."""
    return settings(max_examples=scaled(full))


def few(cases: Iterable[Any], count: int) -> list[Any]:
    """Return test parameters. The first `count` run in `make test`; the others are marked slow."""
    return [case if number < count else _slow(case) for number, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    if isinstance(case, type(pytest.param())):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    return pytest.param(case, marks=pytest.mark.slow)
