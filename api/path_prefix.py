"""The API behind a path prefix, whether the proxy before it takes the prefix away or leaves it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


def serve_below(app: ASGIApp, prefix: str) -> ASGIApp:
    """Middleware: `prefix` (`/hl`, or nothing) stands before every path, as ASGI has it: links and redirects then have it too."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if prefix and scope["type"] == "http":
            path = scope["path"]
            whole = path if path == prefix or path.startswith(f"{prefix}/") else prefix + path
            scope = {**scope, "root_path": prefix, "path": whole}
        await app(scope, receive, send)

    return served
