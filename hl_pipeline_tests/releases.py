"""Restores installations of released versions (`fixtures/release_*`): their databases and lakes."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path

from hl_pipeline.warehouse.embedded import binary

RELEASES = {
    path.name.removeprefix("release_").replace("_", "."): path
    for path in sorted((Path(__file__).parent / "fixtures").glob("release_*"))
}


def restore(release: Path, name: str, url: str) -> None:
    """Restore the dump of a database (`hl` or `hl_dagster`) into an empty one."""
    text = lzma.decompress((release / f"{name}.sql.xz").read_bytes())
    subprocess.run([binary("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, url], input=text, check=True)


def unpack_lake(release: Path, directory: Path) -> Path:
    """Unpack the lake into `directory`. Returns its path."""
    # tarfile does not work here: newer Pythons require its argument `filter`, which 3.11.2 does not have.
    shutil.unpack_archive(release / "lake.tar.xz", directory)
    return directory / "lake"
