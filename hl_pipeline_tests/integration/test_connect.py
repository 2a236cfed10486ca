"""An interruption leaves no lock and no running command on a connection, and no other error replaces it."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import date
from types import FrameType

import psycopg
import pytest

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.locks import lock_fills_day

_LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = current_database()
"""


class _Interruption(BaseException):
    """As Dagster's own: no KeyboardInterrupt."""


@contextmanager
def _interrupted_in(seconds: float) -> Generator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise _Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_interruption_within_a_command_is_raised_and_releases_the_lock(database_url: str) -> None:
    with connect(database_url) as connection:
        with pytest.raises(_Interruption), lock_fills_day(connection, date(2025, 9, 1)), _interrupted_in(0.2):
            connection.execute("SELECT pg_sleep(60)")

        assert connection.execute(_LOCKS).fetchone() == (0,)


def test_an_interruption_in_the_midst_of_a_copy_undoes_its_transaction_and_no_more(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TEMP TABLE numbers (number bigint)")
    connection.execute("INSERT INTO numbers VALUES (1)")
    with (  # noqa: PT012 - it comes in any line
        pytest.raises(_Interruption),
        _interrupted_in(0.2),
        connection.transaction(),
        connection.cursor() as cursor,
        cursor.copy("COPY numbers FROM STDIN") as copy,
    ):
        while True:
            copy.write(b"2\n" * 10_000)

    assert connection.execute("SELECT * FROM numbers").fetchall() == [(1,)]


def test_an_interruption_while_rows_are_read_ends_the_query(connection: psycopg.Connection) -> None:
    query = "SELECT n, pg_sleep(0.01) FROM generate_series(1, 1000) n"
    with pytest.raises(_Interruption), _interrupted_in(0.2), connection.transaction(), connection.cursor("rows") as cursor:
        cursor.execute(query).fetchall()

    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.slow
def test_interruptions_at_any_moment_of_short_commands_leave_a_connection_that_works(connection: psycopg.Connection) -> None:
    for n in range(200):
        with (
            suppress(_Interruption),
            lock_fills_day(connection, date(2025, 9, 1)),
            _interrupted_in(0.0005 + n * 0.00005),
            connection.transaction(),
        ):
            while True:
                connection.execute("SELECT n FROM generate_series(1, 100) n WHERE n > %s", [n]).fetchall()
        assert connection.execute("SELECT %s::int", [n]).fetchone() == (n,)
    assert connection.execute(_LOCKS).fetchone() == (0,)
