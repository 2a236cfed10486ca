"""`hl mcp`: serves the tools for agents, over standard input and output or over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from hl_pipeline.cli.exit_codes import ExitCode
from hl_pipeline.cli.terminal import Demo, errors, fail, load_settings

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

    from hl_client import AsyncClient
    from hl_pipeline.settings import Settings

_PORT = 8001
_NEEDS = "`hl mcp` needs the extra `mcp`, version 2 or newer: pip install 'hl-pipeline[mcp]', or uv sync --extra mcp"


def mcp(
    demo: Demo = False,
    http: Annotated[
        bool, typer.Option("--http", help="Serve streamable HTTP at /mcp instead of standard input and output.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="With --http: address to listen on. On any but loopback, each caller sends its own key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --http: port to listen on.")] = _PORT,
    api_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the REST API. Default: HL_API_URL, or the one of `hl up`.")
    ] = None,
) -> None:
    """Serve tools for agents, by the Model Context Protocol. They ask the REST API, which must run.

    Standard input and output are for an agent that starts this command itself.
    """
    try:
        from mcp.server.transport_security import TransportSecuritySettings

        from hl_pipeline.cli.agent_tools import make_server
    except ImportError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        fail(_NEEDS, code=ExitCode.USAGE)

    settings = load_settings(demo)
    url = _check_url(api_url) if api_url else settings.address_of_api
    shared = _is_reached_by_others(host) if http else False
    if shared:
        _check_api_has_keys(url, host, settings)
    key = None if shared or settings.api_key is None else settings.api_key.get_secret_value()

    @asynccontextmanager
    async def connect(context: Context) -> AsyncGenerator[AsyncClient]:
        from hl_client import AsyncClient

        async with AsyncClient(url, key=_key_of(context) or key or "", on_incomplete="ignore") as client:
            yield client

    server = make_server(connect, version("hl-pipeline"))
    try:
        if http:
            errors.print(f"\n  Tools for agents: http://{host}:{port}/mcp   REST API: {url}   Ctrl-C stops it\n")
            # A page in a browser must not reach a server on loopback under a name of its own.
            local = ["127.0.0.1:*", "localhost:*", "[::1]:*", f"{host}:*"]
            security = TransportSecuritySettings(
                enable_dns_rebinding_protection=not shared,
                allowed_hosts=local,
                allowed_origins=[f"http://{name}" for name in local],
            )
            server.run(
                "streamable-http",
                host=host,
                port=port,
                stateless_http=True,
                json_response=True,
                transport_security=security,
            )
        else:
            server.run("stdio")
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.WHOLE) from None


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"--api-url must begin with http:// or https://, not {url!r}", code=ExitCode.USAGE)
    return url


def _key_of(context: Context) -> str | None:
    """Return the key that the caller sent, if it came over HTTP."""
    request = context.request_context.request
    if request is None:
        return None
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key")


def _is_reached_by_others(host: str) -> bool:
    import socket

    from api.access import is_loopback

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        fail(f"cannot listen on {host}: {error.strerror}", code=ExitCode.USAGE)
    return not all(is_loopback(str(address[0])) for *_, address in found)


def _check_api_has_keys(url: str, host: str, settings: Settings) -> None:
    """End the command if other machines could read an API through this server that has no keys itself."""
    from hl_client import AccessError, Client, HlError

    if settings.api_without_keys:
        return
    try:
        with Client(url, key="", retries=0, timeout_seconds=10) as client:
            client.cost(start="2023-01-01", end="2023-01-01")
    except AccessError:
        return
    except HlError as error:
        fail(f"--host {host} lets other machines in, and whether the API has keys is unknown: {error}")
    fail(
        f"--host {host} lets other machines in, but the API at {url} has no keys; set HL_API_KEYS there (`hl api-key NAME` makes "
        "one), or HL_API_WITHOUT_KEYS=1 here if everyone who reaches this address may read",
        code=ExitCode.USAGE,
    )
