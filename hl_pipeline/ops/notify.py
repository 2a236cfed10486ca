"""Sends messages to the destinations of HL_ALERT_URLS with Apprise. What a message says does not belong here."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hl_pipeline.settings import Settings, split_alert_urls

if TYPE_CHECKING:
    import apprise

_HIDDEN = "***"
_LEAST_SECRET = 3


class AlertUrlError(ValueError):
    """A URL of HL_ALERT_URLS is not one that Apprise knows. The message names its position and never shows it."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: what happened, in one line, then the details."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL of HL_ALERT_URLS. `name` is its position and scheme: the host may be a secret too, as in slack://TOKEN."""

    name: str
    url: str

    def send(self, message: Message) -> str | None:
        """Send a message. Returns why it was not delivered, without the secrets of the URL, or None."""
        service = _open(self.url)
        if service is None:
            raise AlertUrlError(_bad(self.name))
        reasons = _Warnings()
        log = logging.getLogger("apprise")
        # Apprise logs hosts and paths, which may be secrets.
        log.propagate = False
        log.addHandler(reasons)
        try:
            if service.notify(title=message.title, body=message.body):
                return None
        finally:
            log.removeHandler(reasons)
        return _without_secrets(" ".join(reasons.texts) or "Apprise gives no reason", self.url)


def open_destinations(settings: Settings) -> list[Destination]:
    """Return the destinations of HL_ALERT_URLS, none if it is unset. Raises AlertUrlError."""
    if settings.alert_urls is None:
        return []
    urls = split_alert_urls(settings.alert_urls)
    destinations = [Destination(f"{position} ({url.partition('://')[0]})", url) for position, url in enumerate(urls, 1)]
    for destination in destinations:
        if _open(destination.url) is None:
            raise AlertUrlError(_bad(destination.name))
    return destinations


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _open(url: str) -> apprise.Apprise | None:
    # Imported here: it takes 0.3 s, and only alerts need it.
    import apprise

    service = apprise.Apprise()
    log = logging.getLogger("apprise")
    # Of a wrong URL it would log the URL.
    log.disabled, before = True, log.disabled
    try:
        return service if service.add(url) else None
    finally:
        log.disabled = before


def _bad(name: str) -> str:
    return f"HL_ALERT_URLS: Apprise cannot read URL {name}; the form for each service is in docs/alerts.md and at appriseit.com"


def _without_secrets(text: str, url: str) -> str:
    """Hide every part of the URL but its scheme: which part is a secret depends on the service."""
    rest = url.partition("://")[2]
    parts = {part for whole in (rest, unquote(rest)) for part in re.split(r"[^\w.+-]+", whole) if len(part) >= _LEAST_SECRET}
    for part in sorted(parts, key=len, reverse=True):
        text = text.replace(part, _HIDDEN)
    return text
