"""HTML of the explorer: templates, links, static files, and errors as pages. Which figures a page has is not decided here."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request, Response
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.database import read_version
from api.keys import IN_SCOPE
from api.pages import words
from api.pages.ask import RefusedError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_HERE = Path(__file__).parent
_HTML = "text/html"
_HEADINGS = {
    404: "Not found",
    409: "The data has changed",
    422: "This cannot be shown",
    503: "The database does not answer",
    504: "This took too long",
}
_FORMS = {
    "wallet": "An address is 0x and 40 hexadecimal digits, like 0xb90e02bd0033897061b272186d9f16340f153e87.",
    "twap_id": "The ID of a TWAP is a whole number, like 1544034.",
}
# Its name changes with its content, so a browser may keep a file.
_KEEP = "max-age=31536000, immutable"


def wants_page(request: Request) -> bool:
    """Return whether a browser asks, which gets a page instead of JSON."""
    return _HTML in request.headers.get("accept", "")


def respond_page(request: Request, name: str, status: int = 200, **values: Any) -> Response:
    """Return the page of a template."""
    root = request.scope.get("root_path", "")

    def url(path: str, *parts: object, **query: object) -> str:
        whole = root + path + "/".join(quote(str(part), safe="") for part in parts)
        given = {key: value for key, value in query.items() if value is not None}
        return whole + (f"?{urlencode(given)}" if given else "")

    keys = request.app.state.keys
    common = {"url": url, "root": root, "version": read_version(), "has_session": bool(keys), "path": request.url.path}
    key = request.scope.get(IN_SCOPE)
    may_export = key is None or key.may_export
    text = _templates().get_template(f"{name}.html").render(**common, may_export=may_export, **values)
    headers = {"Cache-Control": "private, no-cache" if keys else "no-cache", "Vary": "Accept, Cookie" if keys else "Accept"}
    return Response(text, status, headers, media_type=_HTML)


def respond_static(name: str) -> Response:
    """Return a static file. Raises RefusedError if there is none of this name."""
    found = _static_files().get(name)
    if found is None:
        raise RefusedError(404, f"no file {name!r}")
    return Response(found, headers={"Cache-Control": _KEEP}, media_type=mimetypes.guess_type(name)[0] or "text/plain")


def load_templates() -> None:
    """Compile the templates, so that the first page does not wait for it."""
    environment = _templates()
    for name in environment.list_templates():
        environment.get_template(name)


def with_error_pages(handler: Handler) -> Handler:
    """Return the handler, with its errors as pages."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except RefusedError as error:
            return respond_error(request, error)
        except RequestValidationError as error:
            return respond_error(request, RefusedError(422, error.errors()))
        except HTTPException as error:
            return respond_error(request, RefusedError(error.status_code, error.detail))

    return answer


class PageRoute(APIRoute):
    """A route whose errors are pages."""

    def get_route_handler(self) -> Handler:
        return with_error_pages(super().get_route_handler())


def respond_error(request: Request, error: RefusedError) -> Response:
    """Return the page that says why a page cannot be shown, and what would be accepted."""
    if isinstance(error.detail, list):
        details = [(str(one["loc"][-1]), str(one["msg"]), str(one["input"])) for one in error.detail]
    else:
        details = [("", str(error.detail), "")]
    forms = [form for name, form in _FORMS.items() if any(name == wrong for wrong, _, _ in details)]
    heading = _HEADINGS.get(error.status, "This cannot be shown")
    return respond_page(
        request, "error", error.status, heading=heading, details=details, forms=forms, candidates=error.candidates
    )


@cache
def _static_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (_HERE / "static").iterdir()}


@cache
def _digest() -> str:
    return hashlib.blake2b(b"".join(content for _, content in sorted(_static_files().items())), digest_size=6).hexdigest()


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (words.number, words.rounded, words.price, words.percent, words.instant, words.minutes, words.short, words.covered)
    environment.filters.update({filter_.__name__: filter_ for filter_ in filters})
    environment.globals |= {"VERDICTS": words.VERDICTS, "SIDES": words.SIDES, "share": words.share, "digest": _digest()}
    return environment
