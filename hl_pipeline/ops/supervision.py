"""Restarts services that end unexpectedly, a few times, with growing waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

WAITS_SECONDS = (1, 2, 4, 8, 16)
"""Seconds to wait before each restart. After one more death, the service is given up."""
FORGET_SECONDS = 600.0
"""Older deaths do not count."""


@dataclass(slots=True)
class Service:
    """Something that must run until it is stopped."""

    name: str
    start: Callable[[], bool]
    """Starts it. Returns False if it cannot start yet; it is called again."""
    why_ended: Callable[[], str | None]
    """Returns why it ended, or None while it runs."""
    deaths: list[float] = field(default_factory=list[float])
    starts_at: float | None = None


def look_after(service: Service, now: float, say: Callable[[str], None]) -> bool:
    """Restart `service` if it died and its wait is over, and report each death to `say`. Returns False if it has died too often.

    `now`: seconds of a monotonic clock.
    """
    if service.starts_at is not None:
        if now >= service.starts_at and service.start():
            service.starts_at = None
        return True
    if (why := service.why_ended()) is None:
        return True
    service.deaths = [*(death for death in service.deaths if death > now - FORGET_SECONDS), now]
    count = len(service.deaths)
    if count > len(WAITS_SECONDS):
        say(f"{service.name} {why}, the {count}th time in {FORGET_SECONDS / 60:.0f} minutes")
        return False
    wait = WAITS_SECONDS[count - 1]
    service.starts_at = now + wait
    say(f"{service.name} {why}; restarting in {wait} s")
    return True
