"""For Schemathesis: what is right of a request beyond what an OpenAPI schema can say. No test.

Only requests that it means to be right are touched; those that it makes wrong are sent as they are.
"""

from __future__ import annotations

import schemathesis
from schemathesis import Case, HookContext

_WALLET = "0xb90e02bd0033897061b272186d9f16340f153e87"


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _kwargs: dict[str, object]) -> None:
    """Start before end, both in the span that is served; a cursor that an answer gave; a coin that was seen; fills of somebody
    or something.
    """
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    query = case.query
    # An answer's next_cursor goes with that answer's parameters: none can be made up.
    query.pop("cursor", None)
    query.update({name: "SOL" for name in ("coin", "asset") if name in query})
    for name, year in (("start", 2024), ("end", 2028)):
        if name in query:
            # Leap years, as any year of a made up day may be one.
            query[name] = f"{year}{query[name][4:]}"
    if case.operation.path == "/api/v1/fills" and not {"wallet", "coin"} & set(query):
        query["wallet"] = _WALLET
