"""Advisory locks on days, objects and other resources. They end with the connection, so a killed process holds none."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from enum import IntEnum
from typing import Literal

import psycopg


class Lock(IntEnum):
    """The numbers of all advisory locks. They must never change: old and new processes must exclude each other.

    A lock with one key uses the number itself. The others use it as the first of two keys; the second identifies the day, object
    and so on. For a derived table's day, the first key is the hash of the table's name (`lock_table_day`,
    `lock_table_in_transaction`).
    """

    FILLS_DAY = 7281
    OBJECT = 7282
    STATUSES_DAY = 7283
    MONEY = 7284
    JUDGING = 7285
    JUDGING_STATUSES = 7286
    INFO_WEIGHT = 7287
    SHARD = 7288
    ICEBERG_TABLE = 7289
    COMPACTING = 7290
    MIGRATION = 7_281_001  # one key
    TWAPS = 7_281_002  # one key


@contextmanager
def lock_fills_day(connection: psycopg.Connection, day: date, *, shared: bool = False) -> Generator[None]:
    """Hold the lock for loading a day. `shared`: only readers of the day hold it together."""
    with _lock(connection, Lock.FILLS_DAY, day.toordinal(), "_shared" if shared else ""):
        yield


@contextmanager
def lock_statuses_day(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Hold the lock for loading a day's TWAP statuses."""
    with _lock(connection, Lock.STATUSES_DAY, day.toordinal()):
        yield


@contextmanager
def lock_table_day(connection: psycopg.Connection, table: str, day: date) -> Generator[None]:
    """Hold the lock for writing a day of a derived table."""
    with _lock(connection, _hash(connection, f"hl.{table}"), day.toordinal()):
        yield


def lock_table_in_transaction(cursor: psycopg.Cursor, table: str, day: date) -> None:
    """Hold the lock of `lock_table_day` until the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s), %s)", [f"hl.{table}", day.toordinal()])


def lock_twaps_in_transaction(cursor: psycopg.Cursor) -> None:
    """Hold the lock for writing hl.twaps until the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.TWAPS.value])


@contextmanager
def lock_judging(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Hold the locks for judging the fills of a day and of adjacent days. The state written for the hour that two days share is
    then from the latest judgement.
    """
    with _lock(connection, Lock.JUDGING, day.toordinal()), _lock(connection, Lock.JUDGING, day.toordinal() + 1):
        yield


@contextmanager
def lock_judging_statuses(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Hold the lock for judging the TWAP statuses of a day, by the day in the objects' keys."""
    with _lock(connection, Lock.JUDGING_STATUSES, day.toordinal()):
        yield


@contextmanager
def lock_object(connection: psycopg.Connection, key: str) -> Generator[None]:
    """Hold the lock for fetching an object: two days need the hour between them."""
    with _lock(connection, Lock.OBJECT, _hash(connection, key)):
        yield


@contextmanager
def lock_money(connection: psycopg.Connection) -> Generator[None]:
    """Hold the lock for reserving money."""
    with _lock(connection, Lock.MONEY, 0):
        yield


@contextmanager
def lock_info_weight(connection: psycopg.Connection, egress: str) -> Generator[None]:
    """Hold the lock for admission to the info API from an address, in order of arrival."""
    with _lock(connection, Lock.INFO_WEIGHT, _hash(connection, egress)):
        yield


@contextmanager
def lock_shard(connection: psycopg.Connection, shard: str) -> Generator[None]:
    """Hold the lock for fetching a shard's wallets from the info API."""
    with _lock(connection, Lock.SHARD, int(shard, 16)):
        yield


@contextmanager
def lock_iceberg_table(connection: psycopg.Connection, table: str) -> Generator[None]:
    """Hold the lock for commits to one of the lake's Iceberg tables."""
    with _lock(connection, Lock.ICEBERG_TABLE, _hash(connection, table)):
        yield


@contextmanager
def lock_compacting(connection: psycopg.Connection, day: date) -> Generator[None]:
    """Hold the lock for compacting a day. Two processes would do the same work twice."""
    with _lock(connection, Lock.COMPACTING, day.toordinal()):
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
