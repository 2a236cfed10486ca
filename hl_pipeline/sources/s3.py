"""An S3 bucket: listings, and objects whole or not at all. Transient failures are retried. Every request goes through a meter
before and after, because each costs money. The meter knows prices and budget; `s3_errors` interprets error responses.
"""

from __future__ import annotations

import hashlib
import logging
import re
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import botocore.session
import tenacity
import urllib3.exceptions
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from hl_pipeline.domain.budgets import Meter, Method
from hl_pipeline.domain.errors import BucketError
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.events import emit
from hl_pipeline.sources.s3_errors import AGAIN, Asked, TransientError, error_of_answer, error_of_setup

if TYPE_CHECKING:
    from botocore.client import BaseClient

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PIECE = 1 << 20
_LONGEST_WAIT_SECONDS = 30
_SLOWEST_BYTES_A_SECOND = 1_000
# A page has at most 1,000 keys, each about 300 bytes in these buckets.
_PAGE_BYTES = 1_000_000
_RECEIVED = "Received"


@dataclass(slots=True)
class _Answer:
    """The state of a request: what was received so far."""

    status: int | None = None
    received: int = 0


class _Part:
    """The part of an object received so far, from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.corrupted = 0
        self.restart()

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def add(self, piece: bytes) -> None:
        self._file.write(piece)
        self._md5.update(piece)
        self.size += len(piece)

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()


class Link:
    """The throughput limit that downloads share: `megabytes_per_second` (10^6 bytes), None for no limit."""

    def __init__(self, megabytes_per_second: float | None = None) -> None:
        self._bytes_a_second = None if megabytes_per_second is None else megabytes_per_second * 1e6
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def wait_for(self, size: int) -> None:
        """Sleep until receiving this many bytes is within the limit."""
        if self._bytes_a_second is None:
            return
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_a_second
            seconds = self._free_at - time.monotonic()
        time.sleep(max(seconds, 0))


def open_s3_bucket(
    url: str,
    region: str,
    meter: Meter,
    *,
    attempts: int,
    backoff_seconds: float,
    timeout_seconds: float,
    link: Link,
    setting: str = "HL_NODE_DATA",
    requester_pays: bool = True,
) -> S3Bucket:
    """Open the bucket at `url`, `s3://bucket[/prefix]`. Credentials, profile, role and endpoint come from AWS's own variables.
    `setting`: prefix of the names of the bucket's settings.

    Raises BucketDeniedError if they name something that does not exist.
    """
    # botocore's retries are off: each attempt must be metered.
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=timeout_seconds, read_timeout=timeout_seconds
    )
    with _naming_errors(Asked(url, "LIST", "", setting, requester_pays), _Answer()):
        # A session per client, because sessions are not thread-safe. They share the loader of service descriptions.
        session = botocore.session.Session()
        session.register_component("data_loader", _share_loader())
        client = session.create_client("s3", region_name=region, config=config)
    return S3Bucket(url, client, meter, attempts, backoff_seconds, timeout_seconds, link, setting, requester_pays)


@cache
def _share_loader() -> Loader:
    """Return a shared, cached loader of botocore's service descriptions, which saves 0.15 s of CPU per client."""
    return botocore.session.Session().get_component("data_loader")


@dataclass(frozen=True, slots=True)
class S3Bucket:
    """An S3 bucket. If the requester pays, every call has the header that says so; without it S3 refuses. Between attempts it
    waits a random part of `backoff_seconds`, doubled each time. A body that stalls for `timeout_seconds` fails.
    """

    url: str
    client: BaseClient
    meter: Meter
    attempts: int = 6
    backoff_seconds: float = 1.0
    timeout_seconds: float = 30.0
    link: Link = field(default_factory=Link)
    setting: str = "HL_NODE_DATA"
    requester_pays: bool = True

    def __post_init__(self) -> None:
        self.client.meta.events.register("before-parse.s3", _note_received, unique_id="hl-received")

    @property
    def name(self) -> str:
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        inner = self.url.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{inner}/" if inner else ""

    def list_objects(self, prefix: str, *, deep: bool = False, after: str = "") -> list[SourceObject]:
        found: list[SourceObject] = []
        asked = {"Bucket": self.name, "Prefix": self.prefix + prefix, "Delimiter": "" if deep else "/", **self._payer}
        if after:
            asked["StartAfter"] = self.prefix + after
        while True:
            page = self._retried(prefix, partial(self._list_page, prefix, asked))
            found += [self._found(item) for item in page.get("Contents", [])]
            emit(_log, "page_listed", level=logging.DEBUG, prefix=f"{self.url}/{prefix}", objects=len(found))
            if not page.get("IsTruncated"):
                return found
            if "NextContinuationToken" not in page:
                raise BucketError(f"{self.url}/{prefix}: the listing is truncated and has no continuation token")
            asked["ContinuationToken"] = page["NextContinuationToken"]

    @contextmanager
    def open(self, found: SourceObject) -> Generator[BinaryIO]:
        with tempfile.TemporaryFile(prefix="hl-fetch-") as file:
            try:
                part = _Part(file)
                self._retried(found.key, partial(self._get, found, part))
                file.seek(0)
            except OSError as error:
                raise BucketError(f"{found.key}: cannot be stored in {tempfile.gettempdir()}: {error}; check TMPDIR") from error
            yield file

    @property
    def _payer(self) -> dict[str, str]:
        return {"RequestPayer": "requester"} if self.requester_pays else {}

    def _found(self, item: dict[str, Any]) -> SourceObject:
        """Convert a listed object. If the store lists no ETags, size and modification time replace them, as in a directory."""
        if missing := [member for member in ("Key", "Size", "LastModified") if member not in item]:
            raise BucketError(f"{self.url}: {item.get('Key', 'an object')} is listed without {' and '.join(missing)}")
        size, modified = item["Size"], item["LastModified"]
        etag = item.get("ETag", "").strip('"') or made_etag(size, modified)
        return SourceObject(item["Key"].removeprefix(self.prefix), etag, size, modified)

    def _list_page(self, prefix: str, asked: dict[str, str]) -> dict[str, Any]:
        with self._request("LIST", prefix, _PAGE_BYTES) as answer:
            page = self.client.list_objects_v2(**asked)
            answer.status, answer.received = page[_RECEIVED]
        return page

    def _get(self, found: SourceObject, part: _Part) -> None:
        """Download the rest of the object into `part`. Raises TransientError if it is still incomplete."""
        if part.size == found.size:
            # All bytes arrived but are wrong, so there is no rest to request.
            part.restart()
        with self._request("GET", found.key, found.size - part.size) as answer:
            since = {"Range": f"bytes={part.size}-"} if part.size else {}
            # If the listing has no ETag, the modification time shows whether it is the same object.
            same = {} if found.etag == made_etag(found.size, found.modified) else {"IfMatch": f'"{found.etag}"'}
            got = self.client.get_object(Bucket=self.name, Key=self.prefix + found.key, **same, **since, **self._payer)
            answer.status = got["ResponseMetadata"]["HTTPStatusCode"]
            if not same and got["LastModified"] != found.modified.replace(microsecond=0):
                raise BucketError(f"{found.key}: it changed between listing and download. {AGAIN}")
            # A server without support for ranges sends the whole object again.
            if part.size and not got.get("ContentRange", "").startswith(f"bytes {part.size}-"):
                part.restart()
            with got["Body"] as body:
                for piece in _pieces(body, self.timeout_seconds):
                    answer.received += len(piece)
                    part.add(piece)
                    self.link.wait_for(len(piece))
            _check_whole(found, part, is_md5=_is_md5(found.etag) and not _is_encrypted(got))

    def _retried(self, key: str, attempt: Callable[[], _T]) -> _T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            stop=tenacity.stop_after_attempt(self.attempts),
            wait=tenacity.wait_random_exponential(multiplier=self.backoff_seconds, max=_LONGEST_WAIT_SECONDS),
            before_sleep=partial(_log_retry, key),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TransientError as error:
            raise BucketError(f"{key}: {self.url}: {error}, after {self.attempts} attempts. {AGAIN}") from error

    @contextmanager
    def _request(self, method: Method, key: str, expected_bytes: int) -> Generator[_Answer]:
        """Meter one request and translate its errors."""
        request = self.meter.begin(method, self.name, key, expected_bytes)
        answer = _Answer()
        try:
            with _naming_errors(Asked(self.url, method, key, self.setting, self.requester_pays), answer):
                yield answer
        except BaseException as error:
            self.meter.end(request, answer.status, answer.received, str(error) or type(error).__name__)
            raise
        self.meter.end(request, answer.status, answer.received, None)


def _pieces(body: urllib3.BaseHTTPResponse, timeout_seconds: float) -> Iterator[bytes]:
    """Yield the bytes as they arrive. Raises TransientError if they only trickle in, which a socket timeout does not detect."""
    began, came = time.monotonic(), 0
    # Not read(): it waits for the whole piece and loses what it has if the connection breaks.
    while piece := body.read1(_PIECE):
        yield piece
        came += len(piece)
        if (seconds := time.monotonic() - began) > timeout_seconds:
            if came < _SLOWEST_BYTES_A_SECOND * seconds:
                raise TransientError(f"slow: {came} bytes in {seconds:.0f} s")
            began, came = time.monotonic(), 0


def _check_whole(found: SourceObject, part: _Part, *, is_md5: bool) -> None:
    if part.size > found.size:
        came = part.size
        part.restart()
        raise TransientError(f"received {came} bytes, but {found.size} were listed")
    if part.size < found.size:
        raise TransientError(f"received {part.size} of {found.size} listed bytes")
    if is_md5 and part.md5 != found.etag:
        wrong = f"the MD5 of its bytes is {part.md5}, but its ETag is {found.etag}"
        part.restart()
        part.corrupted += 1
        if part.corrupted > 1:
            raise BucketError(
                f"{found.key}: {wrong}, twice. The object was discarded. Run again, if possible over another network"
            )
        raise TransientError(wrong)


def made_etag(size: int, modified: datetime) -> str:
    """Return a replacement ETag for an object listed without one."""
    return f"{size:x}-{round(modified.timestamp() * 1000):x}"


def _is_md5(etag: str) -> bool:
    """Return whether the ETag is an MD5: the object was uploaded in one part. A multipart ETag has a dash."""
    return re.fullmatch("[0-9a-f]{32}", etag) is not None


def _is_encrypted(got: dict[str, Any]) -> bool:
    """Return whether the object is encrypted with a KMS or customer key: then its ETag is no MD5, although it looks like one."""
    return got.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in got


def _note_received(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Store the status and size of a body that botocore has read. Streams are counted while they are read.

    botocore gives a listing with truncated XML the status 500, so it does not count as a success.
    """
    if isinstance(body := response_dict["body"], bytes):
        customized_response_dict[_RECEIVED] = response_dict["status_code"], len(body)


def _log_retry(key: str, state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None
    emit(
        _log,
        "request_failed",
        level=logging.WARNING,
        key=key,
        attempt=state.attempt_number,
        error=state.outcome.exception(),
        wait_seconds=round(state.upcoming_sleep, 3),
    )


@contextmanager
def _naming_errors(asked: Asked, answer: _Answer) -> Generator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        answer.status, answer.received = error.response.get(_RECEIVED, (status, 0))
        raise error_of_answer(asked, error) from error
    except (BotoConnectionError, HTTPClientError, ResponseParserError, urllib3.exceptions.HTTPError) as error:
        answer.received = max(answer.received, _bytes_before(error))
        raise TransientError(str(error)) from error
    except BotoCoreError as error:
        raise error_of_setup(asked.url, error) from error


def _bytes_before(error: BaseException | None) -> int:
    """Return how many bytes of a body botocore had read when the connection broke."""
    while error is not None and not isinstance(error, urllib3.exceptions.IncompleteRead):
        error = error.__context__
    return 0 if error is None else error.partial
