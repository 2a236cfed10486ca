"""What a service of systemd's type `notify` tells it (sd_notify(3)); nothing where systemd did not start us."""

from __future__ import annotations

import os
import socket


def notify_systemd(state: str) -> None:
    """Send `state`: READY=1, WATCHDOG=1 or STOPPING=1."""
    if not (address := os.environ.get("NOTIFY_SOCKET")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notified:
        # A leading @ is an abstract socket's.
        notified.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
