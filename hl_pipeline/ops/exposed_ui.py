"""Warns when the Dagster UI is started where other machines reach it: it has no login."""

from __future__ import annotations

import ipaddress
from functools import cache

import click

_WARNING = """warning: the Dagster UI listens on {host} and has no login.
  Whoever reaches it can start runs, spend money and delete data. Listen on 127.0.0.1 (-h 127.0.0.1).
  In a container, publish the port on 127.0.0.1 alone. Put a proxy with a login before it: deploy/proxy, docs/security.md."""


@cache
def warn_of_exposed_ui() -> None:
    """Warn, once, if this process is a webserver that other machines may reach. Not if it is read-only."""
    context = click.get_current_context(silent=True)
    # `dagster dev` starts a webserver of its own, with the same options.
    if context is None or not getattr(context.command.callback, "__module__", "").startswith("dagster_webserver"):
        return
    host = context.params.get("host")
    if host is not None and not context.params.get("read_only") and not _is_loopback(host):
        click.echo(_WARNING.format(host=host), err=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
