"""hl.info_calls: what the calls of one address weigh in the info API's last minute, so that all processes that call from it ask
for no more together than HL_INFO_WEIGHT_PER_MINUTE. The database's clock counts, nobody else's.

Whether the server's minute slides or begins anew each minute is not known, so no span of a minute has more, wherever it begins.
"""

from __future__ import annotations

import threading

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.locks import lock_info_weight

MINUTE_SECONDS = 60.0
_MARGIN = 1.005
"""A call counts for so much longer than the window: the server may note it a moment after its answer has come."""
_LOOKS = 20
"""How often in a window whoever waits looks again, should no news come."""

_ADMIT = """
WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS at),
     gone AS (DELETE FROM hl.info_calls USING moment WHERE egress = %(egress)s AND counts_until <= at)
INSERT INTO hl.info_calls (egress, weight, counts_until)
SELECT %(egress)s, %(weight)s, at + make_interval(secs => %(seconds)s)
FROM moment
WHERE %(limit)s >= %(weight)s
      + (SELECT coalesce(sum(weight), 0) FROM hl.info_calls WHERE egress = %(egress)s AND counts_until > at)
  AND NOT EXISTS (SELECT FROM hl.info_egresses WHERE egress = %(egress)s AND blocked_until > at)
RETURNING id
"""

# Until when so much has run out that the call fits, if nothing that is under way turns out to weigh less.
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
    """The budget of HL_EGRESS, a `WeightBudget`; threads and processes may share it. `window_seconds` is the server's minute.

    A call is admitted only when a full page still fits, and counts with what it can weigh until it has ended; one whose process
    was killed, until it would have ended and the window after that.
    """

    def __init__(self, settings: Settings, window_seconds: float = MINUTE_SECONDS) -> None:
        self._url = find_database_url(settings)
        self._egress = settings.egress
        self._limit = settings.info_weight_per_minute
        self._window = window_seconds
        self._turn = threading.Lock()

    def begin(self, most_weight: int, most_seconds: float) -> int:
        """As WeightBudget says. Whoever comes first is admitted first, and he alone looks whether there is room."""
        asked = {
            "egress": self._egress,
            "limit": self._limit,
            "weight": most_weight,
            "seconds": most_seconds + self._window * _MARGIN,
        }
        with self._turn, connect(self._url, "hl info weight") as connection:
            # Who is suspended, or loses the network, while it is his turn must not hold up the others.
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
        """As WeightBudget says; the weight counts from now, when the server has certainly charged it."""
        charged = {"id": call, "egress": self._egress, "weight": weight, "seconds": self._window * _MARGIN}
        with connect(self._url, "hl info weight") as connection:
            connection.execute(_CHARGE, charged)

    def pause(self, seconds: float) -> None:
        """As WeightBudget says, for all processes of the address."""
        with connect(self._url, "hl info weight") as connection:
            connection.execute(_PAUSE, {"egress": self._egress, "seconds": seconds})
