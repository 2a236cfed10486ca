"""Who has access: a key in a header, a session in a cookie, the token for /metrics. Without keys, only this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote, urlencode

import orjson
from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.keys import IN_SCOPE, Key, find_key, is_same_secret
from api.limits import RequestLimit
from api.login import LOGIN_PATHS, SESSION_COOKIE, read_session
from api.responses import respond
from api.settings import ApiSettings

_HEALTH, _METRICS = ("/healthz", "/health"), "/metrics"
# Clients of Hyperliquid's info API expect errors in plain text: the Python one fails on other JSON.
INFO_PATH = "/info"
_NOBODY = ("", 0)
_SEND_KEY = "send `Authorization: Bearer KEY` or `X-API-Key: KEY`; a browser logs in at /login"
_SEND_TOKEN = "send `Authorization: Bearer TOKEN`, with the token of HL_API_METRICS_TOKEN or a key"
CLOSED = (
    "this API has no keys, so it serves only this machine; set HL_API_KEYS (`hl api-key NAME` makes a key), or "
    "HL_API_WITHOUT_KEYS=1 if everyone who reaches it may read"
)


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Return whether an IP address belongs to this machine alone."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def guard(app: ASGIApp, settings: ApiSettings, keys: Sequence[Key], limit: RequestLimit) -> ASGIApp:
    """Middleware that lets requests through to `app` that may be answered, and answers the others with the reason."""
    # What most installations are: nobody has a key, and who asks is on this machine.
    is_open = not keys and settings.api_metrics_token is None

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else _HEALTH[0]
        if path in _HEALTH or (is_open and is_loopback((scope.get("client") or _NOBODY)[0]) and _is_local(scope)):
            await app(scope, receive, send)
            return
        request = Request(scope)
        given = _given_key(request)
        scope[IN_SCOPE] = key = _find(keys, request, given)
        if path == _METRICS:
            refusal = _refuse_metrics(request, settings, keys, given, key)
        else:
            refusal = limit.refuse(_visitor(scope, key)) or _refuse(request, path, settings, keys, given, key)
            refusal = _in_plain_text(refusal) if refusal is not None and path == INFO_PATH else refusal
        await (app if refusal is None else refusal)(scope, receive, send)

    return guarded


def _refuse(
    request: Request, path: str, settings: ApiSettings, keys: Sequence[Key], given: str | None, key: Key | None
) -> Response | None:
    if not keys:
        return None if settings.api_without_keys or _is_local(request.scope) else respond({"detail": CLOSED}, 403)
    if key is not None or path in LOGIN_PATHS:
        return None
    if given is None and request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", ""):
        return _to_login(request)
    return _unauthorized(given, _SEND_KEY)


def _in_plain_text(refusal: Response) -> Response:
    headers = {name: value for name, value in refusal.headers.items() if not name.startswith("content-")}
    return Response(orjson.loads(refusal.body)["detail"], refusal.status_code, headers, "text/plain")


def _refuse_metrics(
    request: Request, settings: ApiSettings, keys: Sequence[Key], given: str | None, key: Key | None
) -> Response | None:
    token = settings.api_metrics_token
    if token is None:
        return _refuse(request, _METRICS, settings, keys, given, key)
    if key is not None or (given is not None and is_same_secret(token.get_secret_value(), given)):
        return None
    return _unauthorized(given, _SEND_TOKEN)


def _unauthorized(given: str | None, send: str) -> Response:
    reason = "a key is required" if given is None else "the key is not known"
    return respond({"detail": f"{reason}; {send}"}, 401, {"WWW-Authenticate": "Bearer"})


def _given_key(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    # A proxy may take `Authorization: Basic` for itself and pass it on.
    if scheme.lower() == "bearer":
        return value.strip()
    return request.headers.get("x-api-key")


def _find(keys: Sequence[Key], request: Request, given: str | None) -> Key | None:
    if not keys:
        return None
    if given is not None:
        return find_key(keys, given)
    session = request.cookies.get(SESSION_COOKIE)
    return None if session is None else read_session(keys, session)


def _is_local(scope: Scope) -> bool:
    """Return whether the address at which the request arrived can be reached from this machine alone."""
    server = scope.get("server")
    if server is None:
        return False
    host, port = server
    # A Unix socket has a path and no port; its file's permissions say who may use it.
    return port is None or is_loopback(host)


def _visitor(scope: Scope, key: Key | None) -> str | None:
    """Return whom a request is counted for. None: nobody."""
    if key is not None:
        return f"key {key.name}"
    client = scope.get("client")
    if client is None or is_loopback(client[0]):
        return None
    return f"address {client[0]}"


def _to_login(request: Request) -> Response:
    scope = request.scope
    # The path of the scope is decoded, and has the prefix.
    asked = quote(scope["path"]) + (f"?{request.url.query}" if request.url.query else "")
    location = f"{scope.get('root_path', '')}/login?{urlencode({'next': asked})}"
    return Response(status_code=303, headers={"Location": location, "Cache-Control": "no-store"})
