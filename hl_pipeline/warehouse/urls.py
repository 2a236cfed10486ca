"""URLs of databases, read by libpq's own parser: the database that one names, the same server with another, and a form to show.
Nothing here connects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

_SECRETS = tuple(option.keyword.decode() for option in pq.Conninfo.parse(b"") if option.dispchar == b"*")
"""The parameters that libpq says are secret: password, sslpassword, …"""
_HIDDEN = "***"
_ADVICE = "in a user or a password, write @ as %40, : as %3A, / as %2F, % as %25"
_DEFAULT_DATABASE = "postgres"  # PostgreSQL's own default, the user's name, is not guessed


class BadUrlError(ValueError):
    """PostgreSQL cannot read a URL, or not as it was meant. The message does not repeat it: any part of it may be a secret."""


def parse_url(url: str) -> dict[str, str]:
    """The parameters of libpq that `url` gives (`host`, `dbname`, …), decoded. Raises BadUrlError."""
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error as error:
        reason = f" ({str(error).strip()})" if _redact(url) == url else ""
        raise BadUrlError(f"it is not a URL of PostgreSQL{reason}: {_ADVICE}") from error
    host, port, name = (parameters.get(key, "") for key in ("host", "port", "dbname"))
    # An @ or / that stands for itself in a password is taken for the end of the password, or of the address; an abstract socket
    # begins with @.
    if "@" in host.removeprefix("@") or "@" in name or not re.fullmatch(r"[\d,]*", port):
        raise BadUrlError(f"it does not say where the password ends: {_ADVICE}")
    return parameters


def build_url(parameters: Mapping[str, str], scheme: str = "postgresql") -> str:
    """The URL that libpq reads as these parameters."""
    rest = dict(parameters)
    name = quote(rest.pop("dbname", ""), safe="")
    address = ""
    if "user" in rest:
        secret = f":{quote(rest.pop('password'), safe='*')}" if "password" in rest else ""
        address = f"{quote(rest.pop('user'), safe='')}{secret}@"
    # A socket's directory, and several hosts, have their place in the query.
    if re.fullmatch(r"[^/@,]+", rest.get("host", "")):
        host = rest.pop("host")
        address += f"[{host}]" if ":" in host else quote(host, safe="")
        address += f":{rest.pop('port')}" if "port" in rest else ""
    query = urlencode(rest, quote_via=quote, safe="*")
    return f"{scheme}://{address}{f'/{name}' if name or query else ''}{f'?{query}' if query else ''}"


def database_of(url: str) -> str:
    """The database that `url` names. Raises BadUrlError."""
    return parse_url(url).get("dbname", _DEFAULT_DATABASE)


def with_database(url: str, name: str) -> str:
    """The URL of another database of the same server. Raises BadUrlError."""
    return build_url(parse_url(url) | {"dbname": name})


def read_only_url(url: str, role: str | None = None) -> str:
    """The URL of sessions whose transactions only read, in `role` if one is given. Raises BadUrlError."""
    parameters = parse_url(url)
    options = [parameters.get("options", ""), "-c default_transaction_read_only=on", f"-c role={role}" if role else ""]
    return build_url(parameters | {"options": " ".join(filter(None, options))})


def url_for_sqlalchemy(url: str, driver: str) -> str:
    """`url` as SQLAlchemy reads it: a `driver` is named, and what libpq knows beyond its five parts is in the query.

    Raises BadUrlError.
    """
    # It takes half a second, and most processes do without.
    from sqlalchemy import URL

    parameters = parse_url(url)
    user, name = parameters.pop("user", None), parameters.pop("dbname", None)
    # A password without a user would get lost.
    password = None if user is None else parameters.pop("password", None)
    # Host and port too: SQLAlchemy's own place for them takes neither a directory nor several.
    made = URL.create(f"postgresql+{driver}", user, password, database=name, query=parameters)
    return made.render_as_string(hide_password=False)


def hide_password(url: str) -> str:
    """`url` fit to be shown: without what libpq calls a secret."""
    try:
        parameters = parse_url(url)
    except BadUrlError:
        return _redact(url)
    hidden = {name: _HIDDEN for name in _SECRETS if name in parameters}
    return build_url(parameters | hidden, url.partition("://")[0])


def _redact(url: str) -> str:
    """Hide whatever may be a secret in what cannot be read as a URL: rather too much than too little."""
    url = re.sub(rf"(?i)([?&](?:{'|'.join(_SECRETS)})=).*?(?=&\w+=|$)", rf"\1{_HIDDEN}", url)
    hidden = re.sub(r"(://[^:@/?]*):.*@", rf"\1:{_HIDDEN}@", url)
    # No @ at all: what stands where the port would.
    return hidden if hidden != url else re.sub(r"(://[^:@/?]*):(?!\d*(?:[/?,]|$)).*", rf"\1:{_HIDDEN}", url)
