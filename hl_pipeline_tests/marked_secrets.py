"""The secrets of the whole test run: whatever a test writes, prints or receives is searched for them (conftest)."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path

# PostgreSQL trusts local users and moto takes any key, so both accept it. It is like no other text, and survives a URL.
SECRET = "m4rked.secret.of.the.test.run"
# Files that hold settings because a test, as the user, put them there.
_SETTINGS_OF_TESTS = {".env"}
# Compressed data: no text is found in it.
_COMPRESSED = {".parquet", ".lz4", ".gz", ".xz", ".zst"}


def assert_no_secret(text: str, where: str) -> None:
    """Fail if `text` has the secret in it. The message shows the line, without the secret."""
    for line in text.splitlines() if SECRET in text else ():
        assert SECRET not in line, f"{where} shows a secret: {line.replace(SECRET, '<the secret>')}"


def files_with_secrets(directories: Iterable[Path]) -> list[str]:
    """Return the paths of the files below these directories that have the secret in their name or content."""
    return [str(path) for directory in directories for path in _files(directory) if SECRET in str(path) or _has_secret(path)]


def _files(directory: Path) -> Generator[Path]:
    for path in directory.rglob("*"):
        if path.name not in _SETTINGS_OF_TESTS and path.suffix not in _COMPRESSED and path.is_file():
            yield path


def _has_secret(path: Path) -> bool:
    try:
        return SECRET.encode() in path.read_bytes()
    except OSError:  # it went meanwhile, or is a socket
        return False
