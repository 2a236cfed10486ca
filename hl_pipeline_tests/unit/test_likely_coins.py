"""Suggestions for an unknown coin: by case, pair, quote, prefix, or typo."""

from __future__ import annotations

import pytest

from api.coins import SeenCoin, UnknownCoinError, likely_coins

_USDC = "USDC"
SEEN = [
    SeenCoin("BTC", _USDC),
    SeenCoin("HYPE", _USDC),
    SeenCoin("kPEPE", _USDC),
    SeenCoin("FARTCOIN", _USDC),
    SeenCoin("xyz:TSLA", _USDC),
    SeenCoin("#1890", _USDC),
    SeenCoin("PURR/USDC", "PURR USDC"),
    SeenCoin("@107", "HYPE USDC"),
    SeenCoin("@142", "UBTC USDC"),
    SeenCoin("@207", "HYPE USDT0"),
    # A pair without a fill on its last days names no token.
    SeenCoin("@999", ""),
]


@pytest.mark.parametrize(
    ("asked", "likeliest"),
    [
        ("btc", "BTC"),
        ("KPEPE", "kPEPE"),
        ("XYZ:tsla", "xyz:TSLA"),
        ("purr/usdc", "PURR/USDC"),
        # As other exchanges, and ccxt, write them.
        ("BTC-PERP", "BTC"),
        ("BTC-USD", "BTC"),
        ("BTCUSDT", "BTC"),
        ("BTC/USDC:USDC", "BTC"),
        ("BTC_USDC_PERP", "BTC"),
        ("1000PEPE", "kPEPE"),
        ("PEPE", "kPEPE"),
        ("TSLA", "xyz:TSLA"),
        # Spot pairs by their tokens, which only their fees tell.
        ("HYPE/USDC", "@107"),
        ("hype/usdt0", "@207"),
        ("HYPE/USDT", "@207"),
        ("BTC/USDC", "@142"),
        ("UBTC", "@142"),
        ("@0", "PURR/USDC"),
        ("PURR", "PURR/USDC"),
        ("107", "@107"),
        ("1890", "#1890"),
        ("FARTCON", "FARTCOIN"),
    ],
)
def test_the_likeliest_coin_comes_first(asked: str, likeliest: str) -> None:
    assert likely_coins(asked, SEEN)[0] == likeliest


def test_all_that_may_be_meant_are_named_once() -> None:
    assert likely_coins("HYPE/USDC", SEEN) == ["@107", "HYPE"]
    assert likely_coins("btc", SEEN) == ["BTC", "@142"]
    assert len(likely_coins("AA", [SeenCoin(f"dex{number}:AA", "") for number in range(9)])) == 5


@pytest.mark.parametrize("asked", ["zzzz", "@0x", "/", "-PERP", "USDC", "%", ":"])
def test_nothing_is_made_up_where_nothing_is_near(asked: str) -> None:
    assert likely_coins(asked, [SeenCoin("BTC", _USDC)]) == []


def test_the_message_names_the_candidates_or_how_a_coin_is_spelled() -> None:
    assert str(UnknownCoinError("btc", ["BTC"])) == "no coin 'btc' is in the loaded days; did you mean BTC?"
    assert "did you mean @107 or HYPE?" in str(UnknownCoinError("HYPE/USDC", ["@107", "HYPE"]))
    assert "spot PURR/USDC or @107" in str(UnknownCoinError("zzzz", []))
