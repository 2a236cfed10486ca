"""A connection pooler in front of PostgreSQL, like PgBouncer.

Clients log in to it and get one of its server sessions, per transaction or per connection. The backend PID that it reports to
a client is made up.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hl_pipeline.warehouse.urls import build_url, parse_url

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_FAKE_PID = 7_777_777


class _EndedError(Exception):
    """The other side has closed its connection."""


class _Side:
    """A connection that is read message by message."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = b""

    def read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not (piece := self.connection.recv(1 << 16)):
                raise _EndedError
            self._buffer += piece
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def read_startup(self) -> bytes:
        return self.read_exactly(struct.unpack("!I", self.read_exactly(4))[0] - 4)

    def read_message(self) -> tuple[bytes, bytes]:
        head = self.read_exactly(5)
        return head[:1], head + self.read_exactly(struct.unpack("!I", head[1:])[0] - 4)

    @property
    def has_more(self) -> bool:
        return bool(self._buffer)


@dataclass(slots=True)
class Pooler:
    """The pooler. `url`: the database's URL through the pooler. `refusal`: the server's message when it refuses a login.

    `takes_options`: accept and ignore a client's options, like PgBouncer with ignore_startup_parameters.
    """

    url: str
    behind: dict[str, str]
    mode: Literal["transaction", "session"]
    refusal: str | None = None
    takes_options: bool = True
    _idle: dict[str, list[_Side]] = field(default_factory=dict[str, list[_Side]])
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _all: list[socket.socket] = field(default_factory=list[socket.socket])

    def serve_client(self, connection: socket.socket) -> None:
        client = _Side(connection)
        with closing(connection):
            try:
                database = self._log_in(client)
                if database is not None:
                    self._pass_on(client, database)
            except (_EndedError, OSError):
                pass

    def _log_in(self, client: _Side) -> str | None:
        """Log a client in. Returns the database that it requests."""
        while (startup := client.read_startup())[:4] in (struct.pack("!I", code) for code in (_SSL, _GSS)):
            client.connection.sendall(b"N")
        if startup[:4] == struct.pack("!I", _CANCEL):
            return None
        values = startup[4:].rstrip(b"\0").split(b"\0")
        asked = dict(zip(values[::2], values[1::2], strict=True))
        if b"options" in asked and not self.takes_options:
            client.connection.sendall(_error("08P01", "unsupported startup parameter: options"))
            return None
        database = asked[b"database"].decode()
        try:
            server, status = self._open(database)
        except PermissionError as error:
            client.connection.sendall(error.args[0])
            return None
        self._release(database, server)
        key = b"K" + struct.pack("!III", 12, _FAKE_PID, 0)
        client.connection.sendall(b"R" + struct.pack("!II", 8, 0) + status + key + b"Z" + struct.pack("!I", 5) + b"I")
        return database

    def _open(self, database: str) -> tuple[_Side, bytes]:
        """Open a server session. Returns it with its parameters. Raises PermissionError with the server's refusal."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(Path(self.behind["host"]) / ".s.PGSQL.5432"))
        self._all.append(connection)
        asked = b"user\0" + self.behind["user"].encode() + b"\0database\0" + database.encode() + b"\0\0"
        connection.sendall(struct.pack("!II", len(asked) + 8, 196608) + asked)
        server, status = _Side(connection), b""
        while True:
            kind, message = server.read_message()
            if kind == b"E":
                raise PermissionError(message if self.refusal is None else _error("3D000", self.refusal))
            if kind == b"S":
                status += message
            if kind == b"Z":
                return server, status

    def _pass_on(self, client: _Side, database: str) -> None:
        server: _Side | None = None
        try:
            while True:
                if server is None:
                    kind, message = client.read_message()
                    if kind == b"X":
                        return
                    server = self._take(database)
                    server.connection.sendall(message)
                    continue
                ready = [client.connection, server.connection]
                if not (client.has_more or server.has_more):
                    ready = select.select(ready, [], [])[0]
                if client.has_more or (client.connection in ready and not server.has_more):
                    kind, message = client.read_message()
                    if kind == b"X":
                        return
                    server.connection.sendall(message)
                    continue
                kind, message = server.read_message()
                client.connection.sendall(message)
                if kind == b"Z" and message[-1:] == b"I" and self.mode == "transaction" and not client.has_more:
                    self._release(database, server)
                    server = None
        finally:
            if server is not None:
                server.connection.close()

    def _take(self, database: str) -> _Side:
        with self._lock:
            if idle := self._idle.setdefault(database, []):
                return idle.pop()
        return self._open(database)[0]

    def _release(self, database: str, server: _Side) -> None:
        with self._lock:
            self._idle.setdefault(database, []).append(server)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


def _error(code: str, text: str) -> bytes:
    fields = b"".join(kind + value.encode() + b"\0" for kind, value in ((b"S", "FATAL"), (b"C", code), (b"M", text)))
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"


@contextmanager
def serve_pooler(url: str, mode: Literal["transaction", "session"]) -> Generator[Pooler]:
    """Serve until the block ends. `url`: a server on a socket that trusts its clients."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        behind = parse_url(url)
        address = {"host": "127.0.0.1", "port": str(listener.getsockname()[1])}
        pooler = Pooler(build_url(behind | address), behind, mode)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                pooler._all.append(connection)
                threading.Thread(target=pooler.serve_client, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield pooler
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            pooler.close()
            thread.join(5)
