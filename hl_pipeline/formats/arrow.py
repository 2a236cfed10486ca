"""Converts frames to Arrow tables with types that every reader supports."""

from __future__ import annotations

# pyarrow has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false
import polars as pl
import pyarrow as pa


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """Convert a frame to an Arrow table without view types, which older readers do not support."""
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
