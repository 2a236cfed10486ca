"""API keys: their form in HL_API_KEYS, how to make and find them. access.py decides what a key allows.

A key has 256 random bits, so nobody can guess it from its hash: SHA-256 without a salt or a slow hash is enough.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

EXPORTS = "exports"
"""The scope that files need: every format but JSON."""
IN_SCOPE = "hl.key"
"""Where the ASGI scope of a request has its Key. None: this API has no keys."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_FORM = "NAME:SHA256HEX or NAME:SHA256HEX:exports; `hl api-key NAME` prints one"
_RANDOM_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the API knows it: by name and hash, never the key itself."""

    name: str
    digest: bytes = field(repr=False)
    may_export: bool


def check_name(name: str) -> str:
    """Return the name of a key. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("the name must be 1 to 64 letters, digits, . _ -, and begin with a letter or digit")
    return name


def make_key() -> str:
    """Return a new random key."""
    return f"hl_{secrets.token_urlsafe(_RANDOM_BYTES)}"


def make_entry(name: str, key: str, *, may_export: bool) -> str:
    """Return the entry of HL_API_KEYS for a key."""
    return f"{name}:{_hash(key).hex()}{f':{EXPORTS}' if may_export else ''}"


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keys of HL_API_KEYS: entries with commas or whitespace between them.

    Raises ValueError. Its message names an entry but never quotes it, because it may hold a key.
    """
    entries = [entry for entry in re.split(r"[\s,]+", text) if entry]
    if not entries:
        raise ValueError(f"is empty; unset it, or add entries: {_FORM}")
    keys: list[Key] = []
    for number, entry in enumerate(entries, start=1):
        key = _parse_entry(number, entry)
        for other in keys:
            if key.name == other.name:
                raise ValueError(f"has two keys named {key.name}; each needs its own name")
            if key.digest == other.digest:
                raise ValueError(f"has the same key twice, as {other.name} and as {key.name}")
        keys.append(key)
    return tuple(keys)


def _parse_entry(number: int, entry: str) -> Key:
    name, *rest = entry.split(":")
    # Only a name with something behind it is surely no key.
    if not rest:
        raise ValueError(f"entry {number} is not complete; it must be {_FORM}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"entry {number}: the name must be 1 to 64 letters, digits, . _ -, and begin with a letter or digit")
    digest, *scopes = rest
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{name} must have the SHA-256 of its key as 64 hexadecimal digits; it must be {_FORM}")
    if scopes not in ([], [EXPORTS]):
        raise ValueError(f"{name} has an unknown scope; the only scope is {EXPORTS}")
    return Key(name, bytes.fromhex(digest), may_export=bool(scopes))


def find_key(keys: Sequence[Key], given: str) -> Key | None:
    """Return the key that was given, in a time that does not depend on which one it is or how much of it is right."""
    digest = _hash(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def is_same_secret(expected: str, given: str) -> bool:
    """Compare two secrets in constant time, whatever their lengths."""
    return hmac.compare_digest(_hash(expected), _hash(given))


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
