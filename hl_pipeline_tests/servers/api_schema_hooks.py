"""Schemathesis hooks for the rules of valid requests that an OpenAPI schema cannot express. Not a test.

The hooks change only requests that are meant to be valid. Deliberately invalid requests are sent unchanged.
"""

from __future__ import annotations

import schemathesis
from schemathesis import Case, HookContext

_WALLET = "0xb90e02bd0033897061b272186d9f16340f153e87"


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, object]) -> None:
    """Make a request valid: start before end, both in the served range; no invented cursor; a known coin; fills with a filter;
    leaderboards with one range of days."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query
    # A next_cursor is valid only with the parameters of its response, so it cannot be invented.
    query.pop("cursor", None)
    query.update({name: "SOL" for name in ("coin", "asset") if name in query})
    for name, year in (("start", 2024), ("end", 2028), ("start_date", 2024), ("end_date", 2028), ("at", 2024)):
        if name in query:
            # Use leap years, since a generated day may be February 29.
            query[name] = f"{year}{query[name][4:]}"
    if "coin" in case.path_parameters:
        case.path_parameters["coin"] = "SOL"
    if "/leaderboards/" in case.operation.path:
        for name in ("start", "end"):
            query.pop(name, None)
        query.setdefault("period", "7d")
    if case.operation.path == "/api/v1/fills" and not {"wallet", "coin"} & set(query):
        query["wallet"] = _WALLET
    if case.operation.path == "/api/v1/trades" and not {"wallet_addresses", "asset", "twap_id"} & set(query):
        query["wallet_addresses"] = _WALLET
