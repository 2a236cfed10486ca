"""Errors that one layer raises and another handles."""

from __future__ import annotations


class BucketError(RuntimeError):
    """A bucket or an object of it could not be read. The message names it, the cause if known, and the next step."""


class BucketDeniedError(BucketError):
    """The bucket denies access: nothing can be read from it until this is fixed."""


class LakeLacksError(RuntimeError):
    """The lake no longer has objects that a day was loaded from. The message names them and says how to load the day anyway."""


class BudgetError(BucketError):
    """A request was not sent because it would exceed the budget. Nothing can be fetched until the budget is raised."""
