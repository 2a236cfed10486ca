"""Installations of released versions (`fixtures/release_*`): their databases restored, their lakes unpacked."""

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
    """The dump of a database (`hl` or `hl_dagster`) into an empty one."""
    text = lzma.decompress((release / f"{name}.sql.xz").read_bytes())
    subprocess.run([binary("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, url], input=text, check=True)


def unpack_lake(release: Path, directory: Path) -> Path:
    """The lake in `directory`; its path."""
    # Not by tarfile: its argument `filter`, which newer versions of Python ask for, is unknown to 3.11.2.
    shutil.unpack_archive(release / "lake.tar.xz", directory)
    return directory / "lake"
