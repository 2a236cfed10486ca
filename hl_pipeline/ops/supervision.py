"""What happens when something that should run has ended: it is started again, a few times, with growing waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

WAITS_SECONDS = (1, 2, 4, 8, 16)
"""How long each start after a death waits; one death more than these, and it is given up."""
FORGET_SECONDS = 600.0
"""Deaths that are longer ago count no more."""


@dataclass(slots=True)
class Service:
    """Something that should run until it is told to stop."""

    name: str
    start: Callable[[], bool]
    """False: it cannot start yet, and is to be asked again."""
    why_ended: Callable[[], str | None]
    """None while it runs."""
    deaths: list[float] = field(default_factory=list[float])
    starts_at: float | None = None


def look_after(service: Service, now: float, say: Callable[[str], None]) -> bool:
    """Start `service` again once its wait is over; `say` is told of each death. False when it has died too often.

    `now` is in seconds, by a clock that only goes forward.
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
    say(f"{service.name} {why}; it is started again in {wait} s")
    return True
