"""Checks from time to time whether the database answers while services use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from hl_pipeline.ops.supervision import Service
from hl_pipeline.warehouse.embedded import has_server, start_again

_ASK_SECONDS = 5.0
_ASK_AWAY_SECONDS = 1.0
_CONNECT_SECONDS = 2


@dataclass(slots=True)
class DatabaseWatch:
    """Watches the database at `url`. `home`: set if it is the embedded one."""

    url: str
    home: Path | None
    away_since: float | None = None
    _asks_at: float = 0.0

    def look(self, now: float, say: Callable[[str], None]) -> bool:
        """Return whether the database answers. Calls `say` once when it stops answering, and once when it answers again."""
        if (is_dead := self.home is not None and not has_server(self.home)) or now >= self._asks_at:
            self._note(None if is_dead else _ask(self.url), now, say, is_dead=is_dead)
        return self.away_since is None

    def _note(self, refusal: str | None, now: float, say: Callable[[str], None], *, is_dead: bool) -> None:
        is_away = is_dead or refusal is not None
        if is_away and self.away_since is None:
            self.away_since = now
            # If it died, the supervisor that starts it again reports it.
            if refusal is not None:
                say(f"the database does not answer: {refusal}")
        elif not is_away and self.away_since is not None:
            say(f"the database answers again, after {now - self.away_since:.0f} s")
            self.away_since = None
        self._asks_at = now + (_ASK_AWAY_SECONDS if is_away else _ASK_SECONDS)


def embedded_service(home: Path) -> Service:
    """Return the embedded PostgreSQL of `home`, which is already running, as a service."""
    return Service("PostgreSQL", lambda: start_again(home), lambda: None if has_server(home) else "has died")


def _ask(url: str) -> str | None:
    """Return the driver's error if the database does not answer, otherwise None."""
    try:
        psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, application_name="hl up").close()
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())
    return None
