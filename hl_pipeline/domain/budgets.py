"""What the sources may spend, as protocols: `warehouse` implements them, `stages` hand them to `sources`."""

from __future__ import annotations

from typing import Literal, Protocol


class WeightBudget(Protocol):
    """What all callers from one address may use together."""

    def begin(self, most_weight: int, most_seconds: float) -> int:
        """Wait for room for a call of at most that weight, that takes no longer than that; its number."""
        ...

    def end(self, call: int, weight: int) -> None:
        """What the call weighed."""
        ...

    def pause(self, seconds: float) -> None:
        """Let nobody begin for so long."""
        ...


Method = Literal["LIST", "GET"]


class Meter(Protocol):
    """Who pays. Every request, retries and broken ones too, is announced before it is made, and reported after."""

    def begin(self, method: Method, bucket: str, key: str, expected_bytes: int) -> int:
        """Allow a request whose body will have so many bytes; its number. Raises BudgetError when there is no money for it."""
        ...

    def end(self, request: int, status: int | None, received_bytes: int, error: str | None) -> None:
        """What came of it: the HTTP status (None: no answer) and the bytes of the body."""
        ...
