"""Advisory locks: who may work on a day or an object now. They end with the connection, so a killed process holds none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from typing import Literal

import psycopg

_DAY_OF_FILLS, _OBJECT, _DAY_OF_STATUSES, _MONEY = 7281, 7282, 7283, 7284

_JUDGING, _JUDGING_STATUSES = 7285, 7286
_INFO_WEIGHT, _SHARD = 7287, 7288


@contextmanager
def lock_fills_day(connection: psycopg.Connection, day: date, *, shared: bool = False) -> Generator[None]:
    """Wait until nobody else loads that day, and keep it so; `shared`: with others that only read it."""
    with _lock(connection, _DAY_OF_FILLS, day.toordinal(), "_shared" if shared else ""):
        yield


@contextmanager
def lock_statuses_day(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Wait until nobody else loads that day's TWAP statuses, and keep it so."""
    with _lock(connection, _DAY_OF_STATUSES, day.toordinal()):
        yield


@contextmanager
def lock_table_day(connection: psycopg.Connection, table: str, day: date) -> Generator[None]:
    """Wait until nobody else makes that day of a derived table, and keep it so."""
    row = connection.execute("SELECT hashtext(%s)", [f"hl.{table}"]).fetchone()
    assert row is not None
    with _lock(connection, row[0], day.toordinal()):
        yield


@contextmanager
def lock_judging(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Wait until nobody else looks at the objects of that day's fills, or of its neighbours', to judge them, and keep it so: what
    is written of the hour between two days is then what was there when the last of them was judged.
    """
    with _lock(connection, _JUDGING, day.toordinal()), _lock(connection, _JUDGING, day.toordinal() + 1):
        yield


@contextmanager
def lock_judging_statuses(connection: psycopg.Connection, day: date) -> Generator[None]:
    """As `lock_judging`, of the objects with that day in their key."""
    with _lock(connection, _JUDGING_STATUSES, day.toordinal()):
        yield


@contextmanager
def lock_object(connection: psycopg.Connection, key: str) -> Generator[None]:
    """Wait until nobody else brings that object, and keep it so (two days want the hour between them)."""
    row = connection.execute("SELECT hashtext(%s)", [key]).fetchone()
    assert row is not None
    with _lock(connection, _OBJECT, row[0]):
        yield


@contextmanager
def lock_money(connection: psycopg.Connection) -> Generator[None]:
    """Wait until nobody else sets money apart, and keep it so."""
    with _lock(connection, _MONEY, 0):
        yield


@contextmanager
def lock_info_weight(connection: psycopg.Connection, egress: str) -> Generator[None]:
    """Wait for one's turn, after those who came before, to be admitted to the info API from that address, and keep it."""
    row = connection.execute("SELECT hashtext(%s)", [egress]).fetchone()
    assert row is not None
    with _lock(connection, _INFO_WEIGHT, row[0]):
        yield


@contextmanager
def lock_shard(connection: psycopg.Connection, shard: str) -> Generator[None]:
    """Wait until nobody else asks the info API for that shard's wallets, and keep it so."""
    with _lock(connection, _SHARD, int(shard, 16)):
        yield


@contextmanager
def _lock(connection: psycopg.Connection, kind: int, number: int, way: Literal["", "_shared"] = "") -> Generator[None]:
    connection.execute(f"SELECT pg_advisory_lock{way}(%s, %s)", [kind, number])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock{way}(%s, %s)", [kind, number])
