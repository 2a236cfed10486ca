"""The API's access to PostgreSQL: read-only connections, and values in the API's form. Queries of routes do not belong here."""

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
from api.tracing import trace_queries

# By type name or type OID.
_Loaders = Mapping[str | int, type[Loader]]

_log = logging.getLogger(__name__)
# A host that vanished without closing its connections is detected within half a minute.
_NETWORK = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
# How long a pool tries to replace a lost connection. After that, the next request makes it try again.
_RECONNECT_SECONDS = 5.0
_SET = "SELECT set_config(key, value, %(is_local)s) FROM pg_catalog.jsonb_each_text(%(session)s)"
_TEXT = adapters.types["text"]
NUMERIC = adapters.types["numeric"].oid
NEWEST_SCHEMA = "0019"
"""The newest migration that these queries support."""
# The table is missing before the first migration, or a reader may not see it. The queries themselves then report what is missing.
_REVISION = """
SELECT version_num, obj_description('hl.alembic_version'::regclass, 'pg_class') FROM hl.alembic_version
"""
_TAKE_ROLE = """
SELECT set_config('role', rolname, %(is_local)s) FROM pg_catalog.pg_roles
WHERE rolname = 'hl_reader' AND pg_has_role(rolname, 'SET')
"""


class Pool(AsyncConnectionPool[AsyncConnection]):
    """A pool of read-only connections. `refusal`: why it gives no connections, if the schema is newer than the queries."""

    refusal: str | None = None
    on_connect: Callable[[], None] | None = None
    """Called for each new connection."""


def read_sql(name: str) -> bytes:
    """Return the text of api/sql/`name`.sql."""
    return (resources.files("api") / "sql" / f"{name}.sql").read_bytes()


def without_zeros(number: str) -> str:
    """Remove trailing zeros from a number in PostgreSQL's notation. For queries that do not trim their numbers themselves."""
    return number.rstrip("0").rstrip(".") if "." in number else number


def make_pool(settings: ApiSettings) -> Pool:
    """Return an unopened pool of connections for JSON responses."""
    timeout, size = settings.api_statement_timeout_seconds, settings.api_pool_size
    return _pool("requests", settings, timeout, size, size, {**_AS_TEXT, "json": _Json, "jsonb": _Json})


def make_export_pool(settings: ApiSettings) -> Pool:
    """Return an unopened pool of connections for exports. It is separate, so that slow downloads block no requests.

    All values are texts.
    """
    timeout, size = settings.api_export_timeout_seconds, settings.api_exports
    texts = dict.fromkeys(("int2", "int4", "int8", "json", "jsonb"), TextLoader)
    loaders = {**_AS_TEXT, **texts, "bool": _Boolean, _TEXT.array_oid: _Texts}
    return _pool("exports", settings, timeout, 0, size, loaders)


async def explain_absence(settings: ApiSettings) -> str:
    """Return why a pool has no connection to give, in one line without a password."""
    try:
        connection = await AsyncConnection.connect(settings.url, connect_timeout=2)
    except OperationalError as error:
        return " ".join(str(error).split())
    await connection.close()
    return "no connection became free in time"


async def _find_refusal(connection: AsyncConnection) -> str | None:
    """Return why these queries do not support the database's schema, or None if they do, as far as is known.

    They do not support the schema of a newer version.
    """
    try:
        [(revision, made_by)] = await (await connection.execute(_REVISION)).fetchall()
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege):
        return None
    if (revision or "") <= NEWEST_SCHEMA:
        return None
    maker = (made_by or "").removeprefix("Migrated by ") or "a newer hl-pipeline"
    return (
        f"the database's schema is at migration {revision}, made by {maker}; this API is from hl-pipeline {read_version()}, "
        f"which supports migrations up to {NEWEST_SCHEMA}: start the API of the newer version"
    )


@cache
def read_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("hl-pipeline")
    except PackageNotFoundError:
        return "unknown"


def _pool(name: str, settings: ApiSettings, timeout: float, least: int, most: int, loaders: _Loaders) -> Pool:
    session = {
        "statement_timeout": str(round(timeout * 1000)),
        # The loaders expect these formats, whatever the database's own settings are.
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "search_path": "pg_catalog, pg_temp",
        # Planning each query for its values costs 0.2 ms, and drops unused filters and the tables of other days. A generic
        # plan, made when a table was small, has taken 20 s for a page of ten rows.
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
        # If an index has the order of a page, scan it up to the limit instead of sorting all rows.
        "enable_sort": "off",
        # The rows and the coverage of a response come from the same snapshot.
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
        trace_queries(connection)
        for type_name, loader in loaders.items():
            connection.adapters.register_loader(type_name, loader)
        # By default, a number's size decides its type, and each type needs its own prepared statement.
        connection.adapters.register_dumper(int, Int8Dumper)
        if session_pid != connection.info.backend_pid:
            # This is a pooler, which may give each transaction another session, so no state may be kept in a session.
            connection.prepare_threshold = None
            return
        await connection.execute(_SET, {"session": Jsonb(session), "is_local": False})
        taken = await (await connection.execute(_TAKE_ROLE, {"is_local": False})).fetchone()
        if taken is None:
            _log.warning("role hl_reader does not exist or cannot be assumed: reading as %s, read-only", connection.info.user)

    async def begin(connection: AsyncConnection) -> None:
        try:
            if connection.prepare_threshold is not None:
                await connection.execute("BEGIN")
                return
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(_SET, {"session": Jsonb(session), "is_local": True})
            await connection.execute(_TAKE_ROLE, {"is_local": True})
        except OperationalError:
            # The server is gone, and with it all other connections.
            await pool.drain()
            raise

    pool = Pool(
        settings.url,
        kwargs={"autocommit": True, "application_name": "hl api", **_NETWORK},
        min_size=least,
        max_size=most,
        open=False,
        configure=configure,
        # A connection is given out in a transaction, which is committed on return. BEGIN also proves that it is alive.
        check=begin,
        name=name,
        timeout=settings.api_pool_timeout_seconds,
        reconnect_timeout=_RECONNECT_SECONDS,
    )
    return pool


class _Time(Loader):
    """Converts `2025-11-03 12:30:00.5+00` to `2025-11-03T12:30:00.500Z`, with 0, 3 or 6 fractional digits."""

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
    """Passes stored JSON on unchanged, with every digit."""

    def load(self, data: Buffer) -> orjson.Fragment:
        return orjson.Fragment(bytes(data))


class _Boolean(Loader):
    def load(self, data: Buffer) -> str:
        return "true" if bytes(data) == b"t" else "false"


class _Texts(ArrayLoader):
    """Converts an array to JSON."""

    base_oid = _TEXT.oid
    delimiter = b","

    def load(self, data: Buffer) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return orjson.dumps(super().load(data)).decode()


# Queries for many rows remove trailing zeros with trim_scale: a loader in Python takes several times as long.
_AS_TEXT: _Loaders = {"numeric": TextLoader, "timestamptz": _Time, "bytea": _Bytes, "date": TextLoader}
