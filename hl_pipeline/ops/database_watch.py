"""Whether the database answers, asked now and then while services run on it."""

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
    """The database at `url`; `home` where it is the embedded one of ours."""

    url: str
    home: Path | None
    away_since: float | None = None
    _asks_at: float = 0.0

    def look(self, now: float, say: Callable[[str], None]) -> bool:
        """Whether it answers. `say` is told once when it does no more, and once when it does again."""
        if (is_dead := self.home is not None and not has_server(self.home)) or now >= self._asks_at:
            self._note(None if is_dead else _ask(self.url), now, say, is_dead=is_dead)
        return self.away_since is None

    def _note(self, refusal: str | None, now: float, say: Callable[[str], None], *, is_dead: bool) -> None:
        is_away = is_dead or refusal is not None
        if is_away and self.away_since is None:
            self.away_since = now
            # Of a death, who starts it again tells.
            if refusal is not None:
                say(f"the database does not answer: {refusal}")
        elif not is_away and self.away_since is not None:
            say(f"the database answers again, after {now - self.away_since:.0f} s")
            self.away_since = None
        self._asks_at = now + (_ASK_AWAY_SECONDS if is_away else _ASK_SECONDS)


def embedded_service(home: Path) -> Service:
    """The embedded PostgreSQL of `home`, which is running already."""
    return Service("PostgreSQL", lambda: start_again(home), lambda: None if has_server(home) else "has died")


def _ask(url: str) -> str | None:
    """Why it does not answer, in the driver's words; None when it does."""
    try:
        psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, application_name="hl up").close()
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())
    return None
