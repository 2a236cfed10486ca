"""Identifies the installed code, so that a run is executed by the code that launched it."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

CODE_TAG = "hl/code"
"""The run tag with the code that launched the run."""


@cache
def identify_code() -> str:
    """Return the version and a digest of all Python and SQL files of this package, like `0.2.0+1f0e2d3c4b5a`.

    The version alone does not change between two commits. Read once: the code in memory is that from the start.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".sql")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return f"{version('hl-pipeline')}+{digest.hexdigest()[:12]}"
