"""Serves the API behind a path prefix, whether or not the proxy strips it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


def serve_below(app: ASGIApp, prefix: str) -> ASGIApp:
    """Middleware that sets `prefix` (`/hl`, or empty) as ASGI root path, so that links and redirects include it."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if prefix and scope["type"] == "http":
            path = scope["path"]
            whole = path if path == prefix or path.startswith(f"{prefix}/") else prefix + path
            scope = {**scope, "root_path": prefix, "path": whole}
        await app(scope, receive, send)

    return served
