"""The answers to `meta` and `spotMeta`: a snapshot of Hyperliquid's, or a minimal universe of the coins that were seen.

Hyperliquid's clients ask for it first, to know the coins. The data has no universe, so the minimal one is marked as synthetic:
its order, indices and token names are not Hyperliquid's, and it must not be used to place orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

SYNTHETIC = {"synthetic": True}
_QUOTES = ("USDC", "USDT0", "USDH", "USDE")
_FORM = '{"meta": …, "spotMeta": …}, each with a "universe"'


@dataclass(frozen=True, slots=True)
class Listed:
    """A coin that was seen. `tokens`: those of its fees, separated by spaces. `decimals`: the most that its volumes have."""

    coin: str
    tokens: str
    decimals: int


class _Universe(BaseModel):
    model_config = ConfigDict(extra="allow")
    universe: list[dict[str, Any]]


class _Snapshot(BaseModel):
    meta: _Universe
    spot_meta: _Universe = Field(alias="spotMeta")


def read_snapshot(path: Path | None) -> dict[str, Any] | None:
    """Return the answers of a snapshot file by type. Ends the process with a message if it cannot be used."""
    if path is None:
        return None
    try:
        text = path.read_bytes()
        _Snapshot.model_validate_json(text)
    except OSError as error:
        raise SystemExit(f"hl api: HL_API_META_FILE {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        [first, *_] = error.errors()
        where = ".".join(map(str, first["loc"]))
        raise SystemExit(f"hl api: HL_API_META_FILE {path} must be {_FORM}: {where}: {first['msg']}") from None
    return orjson.loads(text)


def make_meta(seen: list[Listed], dex: str) -> dict[str, Any]:
    """Return a minimal `meta`: the perpetuals of Hyperliquid, or those of a HIP-3 exchange."""
    perps = [one for one in seen if not _is_spot(one.coin) and _dex(one.coin) == dex]
    return {"universe": [{"szDecimals": one.decimals, "name": one.coin} for one in perps], **SYNTHETIC}


def make_spot_meta(seen: list[Listed]) -> dict[str, Any]:
    """Return a minimal `spotMeta`. A token whose name is not known has the name of its pair."""
    universe: list[dict[str, Any]] = []
    # Named apart, because two pairs may share a token: name -> decimals.
    tokens: dict[str, int] = {"USDC": 0}
    for one in seen:
        if not _is_spot(one.coin):
            continue
        base, quote = _pair(one)
        tokens[base] = max(one.decimals, tokens.get(base, 0))
        tokens.setdefault(quote, 0)
        index = int(one.coin[1:]) if one.coin.startswith("@") else 0
        pair = [list(tokens).index(base), list(tokens).index(quote)]
        universe.append({"tokens": pair, "name": one.coin, "index": index, "isCanonical": "/" in one.coin})
    listed = [{"name": name, "szDecimals": decimals, "index": at} for at, (name, decimals) in enumerate(tokens.items())]
    return {"universe": universe, "tokens": listed, **SYNTHETIC}


def _pair(one: Listed) -> tuple[str, str]:
    if "/" in one.coin:
        base, _, quote = one.coin.partition("/")
        return base, quote
    tokens = set(one.tokens.split())
    quotes = [token for token in _QUOTES if token in tokens]
    bases = sorted(tokens - set(quotes))
    return bases[0] if len(bases) == 1 else one.coin, quotes[0] if quotes else "USDC"


def _is_spot(coin: str) -> bool:
    return "/" in coin or (coin.startswith("@") and coin[1:].isdecimal())


def _dex(coin: str) -> str | None:
    """Return the HIP-3 exchange of a coin: empty for Hyperliquid's own. None: an outcome, which no `meta` has."""
    return None if coin.startswith("#") else coin.rpartition(":")[0]
