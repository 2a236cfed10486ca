"""Errors that cross layers: a layer raises them, another one handles them."""

from __future__ import annotations


class BucketError(RuntimeError):
    """A bucket or an object of it could not be read. The message names it, the cause if known, and the next step."""


class BucketDeniedError(BucketError):
    """The bucket refuses us: nothing of it can be read until that is mended."""


class LakeLacksError(RuntimeError):
    """The lake no longer has what a day was loaded from. The message names it, and says how to load what there is anyway."""


class BudgetError(BucketError):
    """A request was not made: there is no money for it. Nothing more can be fetched until there is."""
