"""Security headers for browsers, on every answer. Pages that need more set their own policy."""

from __future__ import annotations

import base64
import re
from hashlib import sha256

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = "content-security-policy"
_POLICY_NAME = _POLICY.encode()
_DEFAULT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
# A year. Only this host: its subdomains may be somebody else's.
_HTTPS = (b"strict-transport-security", b"max-age=31536000")
_WITH_POLICY = [*_ALWAYS, (_POLICY_NAME, _DEFAULT_POLICY.encode())]
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def security_headers(scope: Scope, *, has_policy: bool = False) -> list[tuple[bytes, bytes]]:
    """Return the headers for an answer to a request."""
    headers = _ALWAYS if has_policy else _WITH_POLICY
    return [*headers, _HTTPS] if scope["scheme"] == "https" else headers


def page_policy(html: str, *more: str) -> dict[str, str]:
    """Return the header with the policy of a page: what is inline in it now is allowed by its hash, and `more` directives."""
    sources = {"script": "", "style": ""}
    for kind, text in _INLINE.findall(html):
        sources[kind] += f" 'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
    inline = [f"{kind}-src 'self'{hashes}" for kind, hashes in sources.items() if hashes]
    return {_POLICY: "; ".join([_DEFAULT_POLICY, *inline, *more])}


def add_security_headers(app: ASGIApp) -> ASGIApp:
    """Middleware that adds them to every answer of `app`."""

    async def protected(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                has_policy = _POLICY_NAME in [name for name, _ in headers]
                message = {**message, "headers": [*headers, *security_headers(scope, has_policy=has_policy)]}
            await send(message)

        await app(scope, receive, adding)

    return protected
