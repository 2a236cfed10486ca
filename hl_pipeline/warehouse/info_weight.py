"""hl.info_calls: the weight of the info API calls of each address within the last minute. It keeps all processes of an address
together below HL_INFO_WEIGHT_PER_MINUTE. Only the database's clock counts.

It is unknown whether the server uses a sliding or a fixed minute, so the limit holds for every span of a minute.
"""

from __future__ import annotations

import threading

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.locks import lock_info_weight

MINUTE_SECONDS = 60.0
_MARGIN = 1.005
"""Seconds that a call counts beyond the window: the server may record it shortly after its response."""
_LONGEST_PAUSE_SECONDS = 3660.0
"""The longest Retry-After that is obeyed, and the wait that is added to it."""
_LOOKS = 20
"""How often per window a waiting caller checks again if it gets no notification."""

_ADMIT = """
WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS at),
     gone AS (DELETE FROM hl.info_calls USING moment WHERE egress = %(egress)s AND counts_until <= at),
     -- If the clock went back, calls would count, and pauses last, until it is where it was.
     shortened AS (
        UPDATE hl.info_calls SET counts_until = at + make_interval(secs => %(seconds)s) FROM moment
        WHERE egress = %(egress)s AND counts_until > at + make_interval(secs => %(seconds)s)
     ),
     resumed AS (
        UPDATE hl.info_egresses SET blocked_until = at + make_interval(secs => %(longest_pause)s) FROM moment
        WHERE egress = %(egress)s AND blocked_until > at + make_interval(secs => %(longest_pause)s)
     )
INSERT INTO hl.info_calls (egress, weight, counts_until)
SELECT %(egress)s, %(weight)s, at + make_interval(secs => %(seconds)s)
FROM moment
WHERE %(limit)s >= %(weight)s
      + (SELECT coalesce(sum(weight), 0) FROM hl.info_calls WHERE egress = %(egress)s AND counts_until > at)
  AND NOT EXISTS (SELECT FROM hl.info_egresses WHERE egress = %(egress)s AND blocked_until > at)
RETURNING id
"""

# When enough weight has expired for the call, unless calls in progress turn out to weigh less.
_UNTIL_ROOM = """
WITH calls AS (
    SELECT counts_until, sum(weight) OVER () - sum(weight) OVER (ORDER BY counts_until, id) AS left_over
    FROM hl.info_calls WHERE egress = %(egress)s AND counts_until > clock_timestamp()
), moments AS (
    SELECT min(counts_until) AS at FROM calls WHERE left_over + %(weight)s <= %(limit)s
    UNION ALL SELECT blocked_until FROM hl.info_egresses WHERE egress = %(egress)s
)
SELECT coalesce(greatest(extract(epoch FROM max(at) - clock_timestamp()), 0), 0)::double precision FROM moments
"""

_CHARGE = """
WITH charged AS (
    INSERT INTO hl.info_calls (id, egress, weight, counts_until) OVERRIDING SYSTEM VALUE
    VALUES (%(id)s, %(egress)s, %(weight)s, clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (id) DO UPDATE SET weight = EXCLUDED.weight, counts_until = EXCLUDED.counts_until
)
SELECT pg_notify('hl_info_weight', %(egress)s)
"""

_PAUSE = """
INSERT INTO hl.info_egresses (egress, blocked_until) VALUES (%(egress)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (egress) DO UPDATE SET blocked_until = greatest(info_egresses.blocked_until, EXCLUDED.blocked_until)
"""


class InfoWeight:
    """The budget of HL_EGRESS, a `WeightBudget` that threads and processes can share. `window_seconds`: the server's minute.

    A call is admitted only if a full page still fits, and counts with its maximum weight until it ends. A call of a killed
    process counts until its timeout, plus one window.
    """

    def __init__(self, settings: Settings, window_seconds: float = MINUTE_SECONDS) -> None:
        self._url = find_database_url(settings)
        self._egress = settings.egress
        self._limit = settings.info_weight_per_minute
        self._window = window_seconds
        self._turn = threading.Lock()

    def begin(self, most_weight: int, most_seconds: float) -> int:
        """See WeightBudget. Callers are admitted in order of arrival; only the first one checks the budget."""
        asked = {
            "egress": self._egress,
            "limit": self._limit,
            "weight": most_weight,
            "seconds": most_seconds + self._window * _MARGIN,
            "longest_pause": _LONGEST_PAUSE_SECONDS,
        }
        with self._turn, connect(self._url, "hl info weight") as connection:
            # A process that is suspended or loses the network while it is first must not block the others.
            connection.execute("SET idle_session_timeout = '2min'")
            with lock_info_weight(connection, self._egress):
                connection.execute("LISTEN hl_info_weight")
                while (admitted := connection.execute(_ADMIT, asked).fetchone()) is None:
                    row = connection.execute(_UNTIL_ROOM, asked).fetchone()
                    assert row is not None
                    for _ in connection.notifies(timeout=min(row[0], self._window / _LOOKS), stop_after=1):
                        pass
                return admitted[0]

    def end(self, call: int, weight: int) -> None:
        """See WeightBudget. The weight counts from now, when the server has certainly charged it."""
        charged = {"id": call, "egress": self._egress, "weight": weight, "seconds": self._window * _MARGIN}
        with connect(self._url, "hl info weight") as connection:
            connection.execute(_CHARGE, charged)

    def pause(self, seconds: float) -> None:
        """See WeightBudget. Applies to all processes of the address."""
        with connect(self._url, "hl info weight") as connection:
            connection.execute(_PAUSE, {"egress": self._egress, "seconds": seconds})
