"""Handles database URLs with libpq's own parser: their database, other databases on the same server, and a form without
passwords. Nothing here connects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

_SECRETS = tuple(option.keyword.decode() for option in pq.Conninfo.parse(b"") if option.dispchar == b"*")
"""The parameters that libpq marks as secret: password, sslpassword, …"""
_HIDDEN = "***"
_ADVICE = "in a user or a password, write @ as %40, : as %3A, / as %2F, % as %25"
_DEFAULT_DATABASE = "postgres"  # PostgreSQL's own default, the user's name, is not guessed


class BadUrlError(ValueError):
    """A URL is invalid or ambiguous. The message does not repeat it, because any part may be a secret."""


def parse_url(url: str) -> dict[str, str]:
    """Return the decoded libpq parameters of `url` (`host`, `dbname`, …). Raises BadUrlError."""
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error as error:
        reason = f" ({str(error).strip()})" if _redact(url) == url else ""
        raise BadUrlError(f"it is not a PostgreSQL URL{reason}: {_ADVICE}") from error
    host, port, name = (parameters.get(key, "") for key in ("host", "port", "dbname"))
    # An unescaped @ or / in a password is parsed as the end of the password or of the address. An abstract socket begins with @.
    if "@" in host.removeprefix("@") or "@" in name or not re.fullmatch(r"[\d,]*", port):
        raise BadUrlError(f"the end of the password is ambiguous: {_ADVICE}")
    return parameters


def build_url(parameters: Mapping[str, str], scheme: str = "postgresql") -> str:
    """Build the URL that libpq parses to these parameters."""
    rest = dict(parameters)
    name = quote(rest.pop("dbname", ""), safe="")
    address = ""
    if "user" in rest:
        secret = f":{quote(rest.pop('password'), safe='*')}" if "password" in rest else ""
        address = f"{quote(rest.pop('user'), safe='')}{secret}@"
    # A socket directory and multiple hosts go into the query.
    if re.fullmatch(r"[^/@,]+", rest.get("host", "")):
        host = rest.pop("host")
        address += f"[{host}]" if ":" in host else quote(host, safe="")
        address += f":{rest.pop('port')}" if "port" in rest else ""
    query = urlencode(rest, quote_via=quote, safe="*")
    return f"{scheme}://{address}{f'/{name}' if name or query else ''}{f'?{query}' if query else ''}"


def database_of(url: str) -> str:
    """Return the database that `url` names. Raises BadUrlError."""
    return parse_url(url).get("dbname", _DEFAULT_DATABASE)


def with_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server. Raises BadUrlError."""
    return build_url(parse_url(url) | {"dbname": name})


def read_only_url(url: str, role: str | None = None) -> str:
    """Return a URL for read-only sessions, with `role` if given. Raises BadUrlError."""
    parameters = parse_url(url)
    options = [parameters.get("options", ""), "-c default_transaction_read_only=on", f"-c role={role}" if role else ""]
    return build_url(parameters | {"options": " ".join(filter(None, options))})


def url_for_sqlalchemy(url: str, driver: str) -> str:
    """Convert `url` for SQLAlchemy: it names the `driver`, and libpq parameters that have no place in the URL go into the query.

    Raises BadUrlError.
    """
    # Imported here: it takes half a second, and most processes do not need it.
    from sqlalchemy import URL

    parameters = parse_url(url)
    user, name = parameters.pop("user", None), parameters.pop("dbname", None)
    # A password without a user would get lost.
    password = None if user is None else parameters.pop("password", None)
    # Host and port too: SQLAlchemy's fields for them accept neither a directory nor multiple hosts.
    made = URL.create(f"postgresql+{driver}", user, password, database=name, query=parameters)
    return made.render_as_string(hide_password=False)


def hide_password(url: str) -> str:
    """Return `url` without the secrets, for display."""
    try:
        parameters = parse_url(url)
    except BadUrlError:
        return _redact(url)
    hidden = {name: _HIDDEN for name in _SECRETS if name in parameters}
    return build_url(parameters | hidden, url.partition("://")[0])


def _redact(url: str) -> str:
    """Hide possible secrets in text that is not a valid URL; too much is better than too little."""
    url = re.sub(rf"(?i)([?&](?:{'|'.join(_SECRETS)})=).*?(?=&\w+=|$)", rf"\1{_HIDDEN}", url)
    hidden = re.sub(r"(://[^:@/?]*):.*@", rf"\1:{_HIDDEN}@", url)
    # Without any @: the text in place of the port.
    return hidden if hidden != url else re.sub(r"(://[^:@/?]*):(?!\d*(?:[/?,]|$)).*", rf"\1:{_HIDDEN}", url)
