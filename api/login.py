"""/login and /logout: a session in a cookie for browsers, which cannot send a key by themselves.

A session is the name of a key and a time, signed with a secret made from the hash of that key. So a restart ends no session,
every worker knows it, and a key that is removed from HL_API_KEYS takes its sessions with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from html import escape
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from itsdangerous import BadSignature, TimestampSigner

from api.headers import page_policy
from api.keys import Key, find_key

SESSION_COOKIE = "hl_session"
LOGIN_PATHS = ("/login", "/logout")
_SESSION_SECONDS = 12 * 3600
_DEFAULT_NEXT = "/docs"
_MOST_FORM_BYTES = 4_096
_NO_STORE = {"Cache-Control": "no-store"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Log in - hl-pipeline</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 15vh auto; padding: 0 1rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .5rem; margin-top: .5rem; }
.error { color: #b00020; }
</style>
</head>
<body>
<h1>hl-pipeline</h1>
MESSAGE<form method="post" action="ACTION">
<input type="hidden" name="next" value="NEXT">
<label>API key<input type="password" name="key" autocomplete="current-password" required autofocus></label>
<button>Log in</button>
</form>
</body>
</html>
"""


def add_login(app: FastAPI, keys: Sequence[Key]) -> None:
    """Serve /login and /logout for these keys."""

    async def log_in(request: Request) -> Response:
        if request.method == "GET":
            return _page(request, request.query_params.get("next", ""))
        form = await _read_form(request)
        if form is None:
            return _page(request, "", "The form is too large.", 413)
        if (key := find_key(keys, form.get("key", "").strip())) is None:
            return _page(request, form.get("next", ""), "This key is not known.", 401)
        answer = _go_to(_local_path(request, form.get("next", "")))
        _set_session(request, answer, _sign(key), _SESSION_SECONDS)
        return answer

    async def log_out(request: Request) -> Response:
        answer = _go_to(f"{_root(request)}/login")
        _set_session(request, answer, "", 0)
        return answer

    app.add_route("/login", log_in, ["GET", "POST"], include_in_schema=False)
    app.add_route("/logout", log_out, ["GET", "POST"], include_in_schema=False)


def read_session(keys: Sequence[Key], session: str) -> Key | None:
    """Return the key of a session. None: it is not ours, or has ended."""
    name = session.rsplit(".", 2)[0]
    for key in keys:
        if key.name == name:
            try:
                _signer(key).unsign(session, max_age=_SESSION_SECONDS)
            except BadSignature:
                return None
            return key
    return None


def _sign(key: Key) -> str:
    return _signer(key).sign(key.name).decode()


def _signer(key: Key) -> TimestampSigner:
    return TimestampSigner(key.digest, salt="hl api session", key_derivation="hmac", digest_method=sha256)


def _set_session(request: Request, answer: Response, value: str, seconds: int) -> None:
    # Browsers refuse a Secure cookie that comes over plain HTTP, as from a loopback address.
    is_secure = request.url.scheme == "https"
    path = _root(request) or "/"
    answer.set_cookie(SESSION_COOKIE, value, seconds, path=path, secure=is_secure, httponly=True, samesite="strict")


def _root(request: Request) -> str:
    return request.scope.get("root_path", "")


def _go_to(path: str) -> Response:
    return Response(status_code=303, headers={"Location": path, **_NO_STORE})


def _local_path(request: Request, path: str) -> str:
    """Return `path` if it stays on this server, and /docs otherwise. Browsers read a backslash as a slash, and skip tabs."""
    is_local = path.startswith("/") and not path.startswith("//") and path.isascii() and path.isprintable() and "\\" not in path
    return path if is_local else _root(request) + _DEFAULT_NEXT


def _page(request: Request, path: str, error: str = "", status: int = 200) -> Response:
    message = f'<p class="error" role="alert">{escape(error)}</p>\n' if error else ""
    html = _PAGE.replace("MESSAGE", message).replace("ACTION", escape(f"{_root(request)}/login"))
    html = html.replace("NEXT", escape(_local_path(request, path)))
    headers = {**_NO_STORE, **page_policy(html), **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    return Response(html, status, headers, media_type="text/html")


async def _read_form(request: Request) -> dict[str, str] | None:
    """Return the fields of a form. None: it is larger than this one can be."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_FORM_BYTES:
            return None
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
