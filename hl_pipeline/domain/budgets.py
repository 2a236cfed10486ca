"""Protocols for the budgets of the sources. `warehouse` implements them; `stages` pass them to `sources`."""

from __future__ import annotations

from typing import Literal, Protocol


class WeightBudget(Protocol):
    """The weight that all callers from one address share."""

    def begin(self, most_weight: int, most_seconds: float) -> int:
        """Wait until a call with at most this weight and duration is allowed. Returns the call's number."""
        ...

    def end(self, call: int, weight: int) -> None:
        """Record the actual weight of a call."""
        ...

    def pause(self, seconds: float) -> None:
        """Block all new calls for this many seconds."""
        ...


Method = Literal["LIST", "GET"]


class Meter(Protocol):
    """Meters spending. Every request, including retries and failures, is announced before it is sent and reported after."""

    def begin(self, method: Method, bucket: str, key: str, expected_bytes: int) -> int:
        """Reserve money for a request with this many bytes. Returns its number. Raises BudgetError if the budget is exceeded."""
        ...

    def end(self, request: int, status: int | None, received_bytes: int, error: str | None) -> None:
        """Record the result: HTTP status (None: no response), bytes of the body and error."""
        ...
