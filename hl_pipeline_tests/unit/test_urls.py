"""Database URLs: we read them as PostgreSQL does, whatever the password, and never show a secret."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import make_url
from sqlalchemy.dialects.postgresql import psycopg, psycopg2

from hl_pipeline.warehouse.connect import NoDatabaseError, connect, ensure_database
from hl_pipeline.warehouse.urls import BadUrlError, build_url, hide_password, parse_url, url_for_sqlalchemy, with_database

_SPECIAL = "p@ss:w/rd?#%[]&=+ ü\\'\""
_READABLE = [
    "postgresql://u:p@db:5432/hl?sslmode=require",
    "postgresql:///own?host=/some/directory&user=postgres",
    "postgres://u:p%40%2F%25%20+@[::1]:5433/hl",
    "postgresql://u:p@h1:1,h2/hl?target_session_attrs=read-write",
    "postgresql://h/hl?user=me&password=a@b&options=-c%20timezone%3DUTC",
    "postgresql://u:p#?w@h/hl",
    "postgresql://h:5432/hl?password=only",
    "postgresql://h",
]
_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize("url", _READABLE)
def test_another_database_of_the_same_server_has_all_other_parameters(url: str) -> None:
    assert conninfo_to_dict(with_database(url, "a b/ü%?")) == conninfo_to_dict(url) | {"dbname": "a b/ü%?"}


@pytest.mark.parametrize("url", _READABLE)
def test_sqlalchemy_gives_both_drivers_the_parameters_that_postgresql_reads(url: str) -> None:
    for dialect, driver in ((psycopg.dialect(), "psycopg"), (psycopg2.dialect(), "psycopg2")):
        _, parameters = dialect.create_connect_args(make_url(url_for_sqlalchemy(url, driver)))
        wanted = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        # An empty port in a list is the default one.
        assert {name: str(value) for name, value in parameters.items()} == wanted


@given(user=_text, password=_text, database=_text)
def test_any_user_password_and_database_survive_a_url(user: str, password: str, database: str) -> None:
    parameters = {"user": user, "password": password, "host": "db", "port": "5432", "dbname": database}
    if "@" in database:
        return
    url = build_url(parameters)
    assert parse_url(url) == parameters
    [arguments] = [make_url(url_for_sqlalchemy(url, "psycopg")).translate_connect_args(username="user", database="dbname")]
    assert {name: str(value) for name, value in arguments.items()}.items() <= parameters.items()


@given(password=st.text(string.punctuation + "é0 ", min_size=1, max_size=8).map(lambda text: f"{text}hidden{text}word{text}"))
def test_no_password_is_shown_however_it_is_written(password: str) -> None:
    encoded = build_url({"user": "u", "password": password, "host": "db", "dbname": "hl"})
    for url in (encoded, f"postgresql://u:{password}@db/hl", f"postgresql://db/hl?user=u&password={password}"):
        shown = hide_password(url)
        assert "hidden" not in shown
        assert "word" not in shown.replace("password=", "")
        assert shown.startswith("postgresql://")


def test_every_secret_that_postgresql_knows_is_hidden() -> None:
    shown = hide_password("postgresql://u:one@h/hl?sslpassword=two&sslmode=require&oauth_client_secret=three")
    assert shown == "postgresql://u:***@h/hl?sslmode=require&sslpassword=***&oauth_client_secret=***"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pa@ss@db/hl",
        "postgresql://u:pa/ss@db/hl",
        "postgresql://u:pa%zzss@db/hl",
        "postgresql://u:pa/s?s@db/hl",
        "postgresql://u:pass",
    ],
)
def test_a_url_whose_password_has_no_clear_end_is_refused_and_no_part_of_it_shown(url: str) -> None:
    with pytest.raises(BadUrlError):
        parse_url(url)
    for use in (connect, ensure_database):
        with pytest.raises(NoDatabaseError, match=r"write @ as %40, : as %3A, / as %2F, % as %25") as error:
            use(url)
        shown = str(error.value).replace("password", "")
        assert "cannot connect to postgresql://u:***" in shown
        assert "pa" not in shown
        assert "ss" not in shown


def test_a_parameter_that_postgresql_does_not_know_is_named() -> None:
    with pytest.raises(BadUrlError, match='invalid URI query parameter: "colour"'):
        parse_url("postgresql://h/hl?colour=red")
