"""Migrations go up and down again, with rows that only the newer schema has. The readable view has every column."""

from __future__ import annotations

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Json

from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.migrate import list_migrations, list_revisions, migrate
from hl_pipeline_tests.servers.api import add, at, twap_row

PLACED, SEEN_FROM = at("2026-08-10 09:00"), at("2026-08-10 07:00")
NOT_BEGUN = {"begins_at": None, "whole_minutes": None, "own_volume": None, "own_notional": None}


def _columns(connection: psycopg.Connection, table: str) -> dict[str, bool]:
    """Its columns, and which of them may be NULL."""
    query = "SELECT attname, NOT attnotnull FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    return dict(connection.execute(query, [table]).fetchall())


def test_the_files_of_migrations_are_named_by_the_revisions_that_alembic_finds() -> None:
    assert list_revisions() == [one.revision for one in list_migrations()]


def test_the_readable_view_has_every_column_of_fills(connection: psycopg.Connection) -> None:
    assert _columns(connection, "hl.fills").keys() - _columns(connection, "hl.fills_readable").keys() == set()


def test_twaps_that_have_not_begun_begin_when_placed_in_the_schema_before(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        newer = _columns(connection, "hl.twaps")
        placed = {**NOT_BEGUN, "verdict": "waiting", "seen_from": SEEN_FROM}
        add(connection, "twaps", twap_row(1, PLACED) | placed | {"started_at": PLACED}, twap_row(2, PLACED) | placed)
    migrate(database_url, "0010", down=True)
    with connect(database_url, "test") as connection:
        query = "SELECT begins_at, whole_minutes, own_volume, own_notional FROM hl.twaps ORDER BY twap_id"
        rows = connection.cursor(row_factory=dict_row).execute(query).fetchall()
        nothing = dict.fromkeys(("whole_minutes", "own_volume", "own_notional"), 0)
        assert rows == [{"begins_at": PLACED, **nothing}, {"begins_at": at("2026-08-10 08:00"), **nothing}]
        assert [name for name in NOT_BEGUN if _columns(connection, "hl.twaps")[name]] == []
    migrate(database_url)
    with connect(database_url, "test") as connection:
        assert _columns(connection, "hl.twaps") == newer
        assert all(newer[name] for name in NOT_BEGUN)
        assert connection.execute("SELECT count(*) FROM hl.twaps").fetchall() == [(2,)]


def test_fees_in_quote_and_fees_of_nothing_go_with_the_schema_before(database_url: str) -> None:
    functions = "SELECT proname, pg_get_functiondef(p.oid) FROM pg_proc p WHERE pronamespace = 'hl'::regnamespace ORDER BY 1"
    with connect(database_url, "test") as connection:
        newer, columns = connection.execute(functions).fetchall(), _columns(connection, "hl.user_stats")
        time = {"first_fill": PLACED, "last_fill": PLACED}
        for number, fees in enumerate(({}, {}, {"USDC": "1"})):
            row = {"date": f"2026-08-{10 + number}", "wallet": "0xa", "fees": Json(fees), "fees_in_quote": number, **time}
            add(connection, "user_stats", row)
        query = "SELECT days, fees, fees_in_quote FROM hl.user_stats_by('month', %s, %s)"
        assert connection.execute(query, ["2026-08-10", "2026-08-11"]).fetchall() == [(2, {}, 1)]
        assert connection.execute(query, ["2026-08-10", "2026-08-12"]).fetchall() == [(3, {"USDC": "1"}, 3)]
        connection.execute("UPDATE hl.user_stats SET fees_in_quote = NULL WHERE date = '2026-08-11'")
        assert connection.execute(query, ["2026-08-10", "2026-08-12"]).fetchall() == [(3, {"USDC": "1"}, None)]
    migrate(database_url, "0012", down=True)
    with connect(database_url, "test") as connection:
        assert "fees_in_quote" not in _columns(connection, "hl.user_stats")
        older = connection.execute(functions).fetchall()
        assert [name for name, text in older if "fees_in_quote" in text] == ["daily_stats_by"]
        assert connection.execute("SELECT days FROM hl.user_stats_by('month')").fetchall() == [(3,)]
    migrate(database_url)
    with connect(database_url, "test") as connection:
        assert (connection.execute(functions).fetchall(), _columns(connection, "hl.user_stats")) == (newer, columns)
