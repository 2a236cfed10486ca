"""PostgreSQL as the API sees it: connections that only read, values in the API's form. No query of a route stands here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from importlib.metadata import PackageNotFoundError, version

import orjson
from psycopg import AsyncConnection, OperationalError, adapters, errors
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.array import ArrayLoader
from psycopg.types.json import Jsonb
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import TextLoader
from psycopg_pool import AsyncConnectionPool

from api.settings import ApiSettings

# By the name of a type, or its number.
_Loaders = Mapping[str | int, type[Loader]]

_log = logging.getLogger(__name__)
# A host that has vanished without a word is noticed after half a minute.
_NETWORK = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# A pool tries for so long to replace a lost connection; after that the next request makes it try again.
_RECONNECT_SECONDS = 5.0
_SET = "SELECT set_config(key, value, %(is_local)s) FROM pg_catalog.jsonb_each_text(%(session)s)"
_TEXT = adapters.types["text"]
NUMERIC = adapters.types["numeric"].oid
NEWEST_SCHEMA = "0015"
"""The newest migration of the schema that these queries know."""
# A database that is still to be migrated has none, or a reader may not see it: then the queries tell what is missing.
_REVISION = """
SELECT version_num, obj_description('hl.alembic_version'::regclass, 'pg_class') FROM hl.alembic_version
"""
_TAKE_ROLE = """
SELECT set_config('role', rolname, %(is_local)s) FROM pg_catalog.pg_roles
WHERE rolname = 'hl_reader' AND pg_has_role(rolname, 'SET')
"""


class Pool(AsyncConnectionPool[AsyncConnection]):
    """Connections that only read. `refusal`: why it has none to give, where the database's schema is newer than the queries."""

    refusal: str | None = None
    on_connect: Callable[[], None] | None = None
    """Called for each new connection."""


def read_sql(name: str) -> bytes:
    """The text of api/sql/`name`.sql."""
    return (resources.files("api") / "sql" / f"{name}.sql").read_bytes()


def without_zeros(number: str) -> str:
    """A number as PostgreSQL writes it, without trailing zeros: for queries that do not trim their own."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def make_pool(settings: ApiSettings) -> Pool:
    """Connections for answers in JSON, not open yet."""
    timeout, size = settings.api_statement_timeout_seconds, settings.api_pool_size
    return _pool("requests", settings, timeout, size, size, {**_AS_TEXT, "json": _Json, "jsonb": _Json})


def make_export_pool(settings: ApiSettings) -> Pool:
    """Connections for exports, not open yet: their own, so that a slow download keeps nobody waiting. All values are texts."""
    timeout, size = settings.api_export_timeout_seconds, settings.api_exports
    texts = dict.fromkeys(("int2", "int4", "int8", "json", "jsonb"), TextLoader)
    loaders = {**_AS_TEXT, **texts, "bool": _Boolean, _TEXT.array_oid: _Texts}
    return _pool("exports", settings, timeout, 0, size, loaders)


async def explain_absence(settings: ApiSettings) -> str:
    """Why a pool has no connection to give, in one line without a password."""
    try:
        connection = await AsyncConnection.connect(settings.url, connect_timeout=2)
    except OperationalError as error:
        return " ".join(str(error).split())
    await connection.close()
    return "no connection came free in time"


async def _find_refusal(connection: AsyncConnection) -> str | None:
    """Why these queries are not for the database's schema: a newer version made it. None: they are, as far as is known."""
    try:
        [(revision, made_by)] = await (await connection.execute(_REVISION)).fetchall()
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege):
        return None
    if (revision or "") <= NEWEST_SCHEMA:
        return None
    maker = (made_by or "").removeprefix("Migrated by ") or "a newer hl-pipeline"
    return (
        f"the database's schema is at migration {revision}, made by {maker}; this API is of hl-pipeline {read_version()}, which "
        f"knows migrations up to {NEWEST_SCHEMA}: start the API of the newer version"
    )


@cache
def read_version() -> str:
    """Of the installed package."""
    try:
        return version("hl-pipeline")
    except PackageNotFoundError:
        return "unknown"


def _pool(name: str, settings: ApiSettings, timeout: float, least: int, most: int, loaders: _Loaders) -> Pool:
    session = {
        "statement_timeout": str(round(timeout * 1000)),
        # As the loaders expect it, whatever the database's own settings say.
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "search_path": "pg_catalog, pg_temp",
        # Planning each query for its values costs 0.2 ms and drops unused filters and the tables of other days. A plan
        # for all values, made when a table was small, was seen to take 20 s for a page of ten.
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
        # Where an index has the order of a page, it is walked up to the limit; not all rows sorted.
        "enable_sort": "off",
        # The answer's rows and its coverage are of one moment.
        "default_transaction_isolation": "repeatable read",
        "default_transaction_read_only": "on",
    }

    async def configure(connection: AsyncConnection) -> None:
        if pool.on_connect is not None:
            pool.on_connect()
        pool.refusal = await _find_refusal(connection)
        if pool.refusal:
            raise OperationalError(pool.refusal)
        [(session_pid,)] = await (await connection.execute("SELECT pg_catalog.pg_backend_pid()")).fetchall()
        for type_name, loader in loaders.items():
            connection.adapters.register_loader(type_name, loader)
        # By default a number's size decides its type, and each type makes another prepared statement.
        connection.adapters.register_dumper(int, Int8Dumper)
        if session_pid != connection.info.backend_pid:
            # A pooler, which may give each transaction another session: nothing may be left in one, nor is anything kept there.
            connection.prepare_threshold = None
            return
        await connection.execute(_SET, {"session": Jsonb(session), "is_local": False})
        taken = await (await connection.execute(_TAKE_ROLE, {"is_local": False})).fetchone()
        if taken is None:
            _log.warning("role hl_reader is not there or may not be taken: reading as %s, read-only", connection.info.user)

    async def begin(connection: AsyncConnection) -> None:
        try:
            if connection.prepare_threshold is not None:
                await connection.execute("BEGIN")
                return
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(_SET, {"session": Jsonb(session), "is_local": True})
            await connection.execute(_TAKE_ROLE, {"is_local": True})
        except OperationalError:
            # The server went away, and all other connections with it.
            await pool.drain()
            raise

    pool = Pool(
        settings.url,
        kwargs={"autocommit": True, "application_name": "hl api", **_NETWORK},
        min_size=least,
        max_size=most,
        open=False,
        configure=configure,
        # A connection is given out in a transaction, which the end of its use commits. It shows too that it is alive.
        check=begin,
        name=name,
        timeout=settings.api_pool_timeout_seconds,
        reconnect_timeout=_RECONNECT_SECONDS,
    )
    return pool


class _Time(Loader):
    """`2025-11-03 12:30:00.5+00` as `2025-11-03T12:30:00.500Z`: no digits of a fraction, 3 or 6."""

    def load(self, data: Buffer) -> str:
        text = str(data, "ascii")
        fraction = text[20:-3]
        if not fraction:
            return f"{text[:10]}T{text[11:19]}Z"
        return f"{text[:10]}T{text[11:19]}.{fraction.ljust(3 if len(fraction) <= 3 else 6, '0')}Z"


class _Bytes(Loader):
    def load(self, data: Buffer) -> str:
        return "0x" + str(data[2:], "ascii")


class _Json(Loader):
    """JSON as it is stored, to the last digit."""

    def load(self, data: Buffer) -> orjson.Fragment:
        return orjson.Fragment(bytes(data))


class _Boolean(Loader):
    def load(self, data: Buffer) -> str:
        return "true" if bytes(data) == b"t" else "false"


class _Texts(ArrayLoader):
    """An array as JSON."""

    base_oid = _TEXT.oid
    delimiter = b","

    def load(self, data: Buffer) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return orjson.dumps(super().load(data)).decode()


# Queries of many rows take the trailing zeros of numbers away by trim_scale: a loader in Python takes several times as long.
_AS_TEXT: _Loaders = {"numeric": TextLoader, "timestamptz": _Time, "bytea": _Bytes, "date": TextLoader}
