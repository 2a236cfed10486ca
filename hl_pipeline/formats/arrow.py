"""Frames as Arrow tables of types that every reader knows."""

from __future__ import annotations

# pyarrow has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false
import polars as pl
import pyarrow as pa


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """The frame as an Arrow table, without the view types that older readers do not know."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
