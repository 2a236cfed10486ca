"""Unknown coins, and suggestions for what was meant. For the API and `hl show`. Nothing here connects to the database."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

_SQL = resources.files("api") / "sql"
IS_SEEN_BEFORE = (_SQL / "coin_is_seen.sql").read_bytes()
"""Whether a coin was ever seen, except in fills of days without statistics. Fast. Parameters: coin, and the wallet whose TWAPs
are also searched (or None)."""
IS_NEW = (_SQL / "coin_is_new.sql").read_bytes()
"""Whether a coin is in the fills of days without statistics. Takes longer the more days there are. Parameter: coin."""
IS_SEEN = b"SELECT (%b) OR (%b)" % (IS_SEEN_BEFORE, IS_NEW)
"""Either of the two. Parameters: coin, and wallet (or None)."""
ALL_SEEN = (_SQL / "coins_seen.sql").read_bytes()
"""The fields of every SeenCoin."""

_MOST_CANDIDATES = 5
_SPELLING = "a coin is spelled as Hyperliquid spells it: SOL, spot PURR/USDC or @107, HIP-3 xyz:TSLA, outcome #1890"
# Only spot pair 0 is known by its name.
_OTHER_NAME = {"@0": "PURR/USDC"}
# Suffixes that other exchanges add to the coin: BTC-PERP, BTC/USDC:USDC, BTCUSDT.
_QUOTE = r"(?:USD[A-Z0-9]{0,2}|PERP|SWAP|SPOT)"
_SUFFIX = re.compile(rf"(?<=.)(?:(?:[-_/:]{_QUOTE})+|USDT|USDC|USD|PERP)$", re.IGNORECASE)
# The exchange of HIP-3, the sign of spot and outcomes, and the "thousand" of kPEPE, which others write as 1000PEPE.
_PREFIX = re.compile(r"^(?:[a-z0-9]+:|[@#]|k(?=[A-Z])|1000(?=[A-Z]))")


@dataclass(frozen=True, slots=True)
class SeenCoin:
    """A coin, and the tokens in which its fees were paid. For a spot pair, these are its two tokens."""

    coin: str
    tokens: str
    """Separated by spaces."""


class UnknownCoinError(Exception):
    """No coin of this name was ever seen. The message suggests what was likely meant."""

    def __init__(self, asked: str, candidates: list[str]) -> None:
        meant = f"did you mean {' or '.join(candidates)}?" if candidates else _SPELLING
        super().__init__(f"no coin {asked!r} is in the loaded days; {meant}")
        self.candidates = candidates


def likely_coins(asked: str, seen: Iterable[SeenCoin]) -> list[str]:
    """Return the coins that `asked` may mean, most likely first."""
    coins = list(seen)
    by_bare: dict[str, list[str]] = {}
    for one in coins:
        by_bare.setdefault(_bare(one.coin), []).append(one.coin)
    in_other_case = [one.coin for one in coins if one.coin.casefold() == asked.casefold() or one.coin == _OTHER_NAME.get(asked)]
    pairs, same = [one.coin for one in coins if _is_pair(asked, one)], by_bare.get(_bare(asked), [])
    found = [*in_other_case, *(pairs + same if "/" in asked else same + pairs)]
    if not found:
        near = difflib.get_close_matches(_bare(asked), by_bare, n=_MOST_CANDIDATES, cutoff=0.7)
        found = [coin for name in near for coin in by_bare[name]]
    return list(dict.fromkeys(found))[:_MOST_CANDIDATES]


def _bare(coin: str) -> str:
    """Return the bare name, without the prefixes and suffixes that Hyperliquid or other exchanges use."""
    return _SUFFIX.sub("", _PREFIX.sub("", coin)).casefold()


def _is_pair(asked: str, one: SeenCoin) -> bool:
    """Return whether `asked` names the spot pair by its tokens, as HYPE/USDC or just HYPE. Unit's BTC is UBTC."""
    if not one.coin.startswith("@"):
        return False
    base, _, quote = asked.upper().replace("-", "/").replace("_", "/").partition("/")
    tokens = {token.upper() for token in one.tokens.split()}
    bases = {base, f"U{base}", _bare(asked).upper()}
    return bool(tokens & bases) and (quote in ("", "SPOT") or any(token.startswith(quote) for token in tokens - bases))
