"""How many random cases a test draws: few in `make test` (profile ci), fewer in `make quick`, all of them in `make test-system`
(full), and twenty times as many in `make reliability`. `pytest --hypothesis-profile` chooses it; conftest registers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

FULL = 50
"""Examples of a property test in the profile full, unless it asks for another number."""


def scaled(full: int) -> int:
    """What `full` cases in the profile full are in the profile that is in use; at least one."""
    return max(1, full * settings().max_examples // FULL)


def examples(full: int) -> settings:
    """Settings of a property test that draws `full` examples in the profile full."""
    return settings(max_examples=scaled(full))


def few(cases: Iterable[Any], count: int) -> list[Any]:
    """Parameters of a test of which the first `count` are in `make test`, and the others are slow."""
    return [case if number < count else _slow(case) for number, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    if isinstance(case, type(pytest.param())):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    return pytest.param(case, marks=pytest.mark.slow)
