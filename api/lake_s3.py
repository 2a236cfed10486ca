"""The lake on S3 as a file system for DuckDB, whose own one for S3 is an extension to download."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import boto3
import pyarrow.fs as pa_fs
from fsspec import AbstractFileSystem
from pyarrow import NativeFile

from api.lake_files import LakeUnreadableError

_IMMUTABLE = "/iceberg/"
_ALWAYS = datetime(2023, 1, 1, tzinfo=UTC)
# Opening a file costs a request for its size. Files of days at rest stay open, a few hundred bytes each.
_OPEN_FILES = 4_096
# The footer of an hour is read several times for a query, and fits into this.
_TAIL_BYTES = 64 << 10
_AT_ONCE = 8
_CONNECT_SECONDS, _ATTEMPTS = 2, 2


class S3Lake(AbstractFileSystem):
    """Reads paths like `protocol://bucket/key`. Credentials and endpoint are those of boto3. `timeout_seconds`: of a request."""

    cachable = False

    def __init__(self, url: str, protocol_name: str, timeout_seconds: float) -> None:
        super().__init__()
        self.protocol = (protocol_name,)  # pyright: ignore[reportIncompatibleMethodOverride, reportAttributeAccessIssue]
        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise LakeUnreadableError(f"{url}: no AWS credentials found; set AWS_PROFILE or AWS_ACCESS_KEY_ID")
        self._credentials: Any = credentials
        client: Any = session.client("s3")
        self._region, self._endpoint = client.meta.region_name, client.meta.endpoint_url
        self._used: Any = None
        self._timeout_seconds = timeout_seconds
        self._failures: dict[str, OSError] = {}
        self._connect()
        bucket = url.removeprefix("s3://").partition("/")[0]
        try:
            is_absent = self._files.get_file_info(bucket).type == pa_fs.FileType.NotFound
        except OSError as error:
            # Who may read objects may not be allowed to ask for the bucket.
            if "ACCESS_DENIED" not in str(error):
                raise
            is_absent = False
        if is_absent:
            raise LakeUnreadableError(f"{url}: the bucket does not exist")

    def failure_of(self, paths: Iterable[str]) -> tuple[str, OSError] | None:
        """Return what S3 answered when one of these paths was read last, and its URL, if that was an error."""
        keys = map(self._strip, paths)
        return next(((f"s3://{key}", self._failures[key]) for key in keys if key in self._failures), None)

    def renew(self, paths: Sequence[str]) -> None:
        """Open hours again, as they are now. They stay open until the next call, so that a query asks S3 once for each."""
        keys = [self._strip(path) for path in paths]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lake-s3") as pool:
            self._hours |= dict(
                zip(keys, pool.map(lambda key: self._noting(key, lambda: self._open_hour(key)), keys), strict=True)
            )

    def open(self, path: str, mode: str = "rb", **_: Any) -> _Handle:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Open a file for DuckDB, which opens the same file several times for a query."""
        assert mode == "rb", mode
        return _Handle(self._open_file(path), lambda call: self._noting(self._strip(path), call))

    def size(self, path: str) -> int:
        """Return the bytes of a file."""
        return self._open_file(path).size

    def glob(self, path: str, **_: Any) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the path itself: files are always listed by name."""
        return [path]

    def exists(self, path: str, **_: Any) -> bool:  # noqa: ARG002
        """Return True: a missing file is an error when it is opened."""
        return True

    def modified(self, path: str) -> datetime:
        """Return when a file last changed: DuckDB keeps its footer until then. Hours are replaced in place."""
        return _ALWAYS if _IMMUTABLE in path else datetime.now(UTC)

    def _strip(self, path: str) -> str:
        return path.removeprefix(f"{self.protocol[0]}://")

    def _open_file(self, path: str) -> _File:
        # Credentials of a role change every few hours.
        if self._credentials.get_frozen_credentials() != self._used:
            self._connect()
        key = self._strip(path)
        if _IMMUTABLE in key:
            return self._noting(key, lambda: self._open_once(key))
        if (known := self._hours.get(key)) is not None:
            return known
        return self._noting(key, lambda: self._open_hour(key))

    def _open_hour(self, key: str) -> _File:
        file = self._files.open_input_file(key)
        size = file.size()
        since = max(0, size - _TAIL_BYTES)
        return _File(file, size, since, file.read_at(size - since, since))

    def _open_day(self, key: str) -> _File:
        file = self._files.open_input_file(key)
        return _File(file, file.size())

    def _noting(self, key: str, call: Callable[[], Any]) -> Any:
        """Return what `call` returns. DuckDB turns its error into a text, so keep it for `failure_of`."""
        try:
            found = call()
        except OSError as error:
            self._failures[key] = error
            raise
        self._failures.pop(key, None)
        return found

    def _connect(self) -> None:
        self._used = self._credentials.get_frozen_credentials()
        scheme, _, host = self._endpoint.partition("://")
        self._files = pa_fs.S3FileSystem(
            access_key=self._used.access_key,
            secret_key=self._used.secret_key,
            session_token=self._used.token,
            region=self._region,
            endpoint_override=host,
            scheme=scheme,
            connect_timeout=_CONNECT_SECONDS,
            request_timeout=self._timeout_seconds,
            retry_strategy=pa_fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        )
        self._open_once = lru_cache(_OPEN_FILES)(self._open_day)
        self._hours: dict[str, _File] = {}


@dataclass(frozen=True, slots=True)
class _File:
    """An open file, its size and, of an hour, its end, which begins at `since`."""

    content: NativeFile
    size: int
    since: int = 0
    end: bytes = b""

    def read(self, position: int, count: int) -> bytes:
        if self.end and position >= self.since:
            return self.end[position - self.since :][:count]
        return self.content.read_at(count, position)


class _Handle:
    """A position in a file that others may read, too."""

    def __init__(self, file: _File, noting: Callable[[Callable[[], Any]], Any]) -> None:
        self._file, self._noting, self._position = file, noting, 0

    def seek(self, position: int, whence: int = 0) -> int:
        """Set the position, from the beginning. DuckDB uses no other."""
        assert whence == 0, whence
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, count: int) -> bytes:
        """Read at the position."""
        content = self._noting(lambda: self._file.read(self._position, count))
        self._position += len(content)
        return content

    def close(self) -> None:
        """Forget the file. It stays open for others."""
