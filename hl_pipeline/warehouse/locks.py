"""Advisory locks: who may work on a day or an object now. They end with the connection, so a killed process holds none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from enum import IntEnum
from typing import Literal

import psycopg


class Lock(IntEnum):
    """The number of every advisory lock. None may change: an old process and a new one must exclude each other.

    Those of one key are the whole key; the others are the first key of two, the second says which day, object, …. A derived
    table's day has the hash of the table's name in their place (`lock_table_day`, `lock_table_in_transaction`).
    """

    FILLS_DAY = 7281
    OBJECT = 7282
    STATUSES_DAY = 7283
    MONEY = 7284
    JUDGING = 7285
    JUDGING_STATUSES = 7286
    INFO_WEIGHT = 7287
    SHARD = 7288
    MIGRATION = 7_281_001  # of one key
    TWAPS = 7_281_002  # of one key


@contextmanager
def lock_fills_day(connection: psycopg.Connection, day: date, *, shared: bool = False) -> Generator[None]:
    """Wait until nobody else loads that day, and keep it so; `shared`: with others that only read it."""
    with _lock(connection, Lock.FILLS_DAY, day.toordinal(), "_shared" if shared else ""):
        yield


@contextmanager
def lock_statuses_day(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Wait until nobody else loads that day's TWAP statuses, and keep it so."""
    with _lock(connection, Lock.STATUSES_DAY, day.toordinal()):
        yield


@contextmanager
def lock_table_day(connection: psycopg.Connection, table: str, day: date) -> Generator[None]:
    """Wait until nobody else makes that day of a derived table, and keep it so."""
    with _lock(connection, _hash(connection, f"hl.{table}"), day.toordinal()):
        yield


def lock_table_in_transaction(cursor: psycopg.Cursor, table: str, day: date) -> None:
    """As `lock_table_day`, up to the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", [f"hl.{table}", day.toordinal()])


def lock_twaps_in_transaction(cursor: psycopg.Cursor) -> None:
    """Wait until nobody else makes rows of hl.twaps, and keep it so up to the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.TWAPS.value])


@contextmanager
def lock_judging(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Wait until nobody else looks at the objects of that day's fills, or of its neighbours', to judge them, and keep it so: what
    is written of the hour between two days is then what was there when the last of them was judged.
    """
    with _lock(connection, Lock.JUDGING, day.toordinal()), _lock(connection, Lock.JUDGING, day.toordinal() + 1):
        yield


@contextmanager
def lock_judging_statuses(connection: psycopg.Connection, day: date) -> Generator[None]:
    """As `lock_judging`, of the objects with that day in their key."""
    with _lock(connection, Lock.JUDGING_STATUSES, day.toordinal()):
        yield


@contextmanager
def lock_object(connection: psycopg.Connection, key: str) -> Generator[None]:
    """Wait until nobody else brings that object, and keep it so (two days want the hour between them)."""
    with _lock(connection, Lock.OBJECT, _hash(connection, key)):
        yield


@contextmanager
def lock_money(connection: psycopg.Connection) -> Generator[None]:
    """Wait until nobody else sets money apart, and keep it so."""
    with _lock(connection, Lock.MONEY, 0):
        yield


@contextmanager
def lock_info_weight(connection: psycopg.Connection, egress: str) -> Generator[None]:
    """Wait for one's turn, after those who came before, to be admitted to the info API from that address, and keep it."""
    with _lock(connection, Lock.INFO_WEIGHT, _hash(connection, egress)):
        yield


@contextmanager
def lock_shard(connection: psycopg.Connection, shard: str) -> Generator[None]:
    """Wait until nobody else asks the info API for that shard's wallets, and keep it so."""
    with _lock(connection, Lock.SHARD, int(shard, 16)):
        yield


def _hash(connection: psycopg.Connection, text: str) -> int:
    row = connection.execute("SELECT hashtext(%s)", [text]).fetchone()
    assert row is not None
    return row[0]


@contextmanager
def _lock(connection: psycopg.Connection, kind: int, number: int, way: Literal["", "_shared"] = "") -> Generator[None]:
    connection.execute(f"SELECT pg_advisory_lock{way}(%s, %s)", [int(kind), number])
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"SELECT pg_advisory_unlock{way}(%s, %s)", [int(kind), number])
