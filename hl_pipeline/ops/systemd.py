"""Notifies systemd as a service of type `notify` (sd_notify(3)). Does nothing if systemd did not start this process."""

from __future__ import annotations

import os
import socket


def notify_systemd(state: str) -> None:
    """Send `state`: READY=1, WATCHDOG=1 or STOPPING=1."""
    if not (address := os.environ.get("NOTIFY_SOCKET")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notified:
        # A leading @ denotes an abstract socket.
        notified.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
