"""What a request is called in metrics and traces: its method and the template of its route, never text from a client."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fastapi import APIRouter, FastAPI
from starlette.routing import Route
from starlette.types import Scope

_METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
_NO_ROUTE = "none"


def find_route(scope: Scope) -> str:
    """Return the template of the route that answers a request or, if it was refused before, would have. `none`: no such path."""
    if (answering := getattr(scope.get("route"), "path", None)) is not None:
        return answering
    path = path_of(scope)
    return next((template for template, form in scope["app"].state.routes if form.match(path)), _NO_ROUTE)


def list_routes(app: FastAPI, routers: Iterable[APIRouter]) -> list[tuple[str, re.Pattern[str]]]:
    """Return the template of each route, with the form of its paths."""
    routes = [*app.routes, *(route for router in routers for route in router.routes)]
    return [(route.path, route.path_regex) for route in routes if isinstance(route, Route)]


def path_of(scope: Scope) -> str:
    """Return the path of a request, without a prefix (`path_prefix.serve_below`)."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def name_method(scope: Scope) -> str:
    """Return the method of a request, or `other`."""
    return scope["method"] if scope["method"] in _METHODS else "other"
