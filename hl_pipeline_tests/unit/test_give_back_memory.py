"""Freed memory is returned to the system."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from hl_pipeline.stages.give_back_memory import give_back_memory

_PIECES = 2_000
_PIECE_BYTES = 100_000  # smaller than what malloc asks the system for one by one


def _resident_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_free_pages_between_used_ones_go_back_to_the_system() -> None:
    pieces = [np.ones(_PIECE_BYTES, np.uint8) for _ in range(_PIECES)]
    # With one in ten in use the heap cannot shrink by itself.
    used = pieces[::10]
    del pieces
    before = _resident_bytes()
    give_back_memory()
    assert before - _resident_bytes() > _PIECES * _PIECE_BYTES // 2
    assert all(int(piece.sum()) == _PIECE_BYTES for piece in used)
