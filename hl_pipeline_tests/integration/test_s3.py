"""Every way S3 can fail, and the cost: objects arrive whole or not at all, and hl.s3_requests records each request exactly."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from hl_pipeline.domain.errors import BucketError, BudgetError
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.settings import Settings
from hl_pipeline.sources.s3 import Link, S3Bucket, open_s3_bucket
from hl_pipeline.warehouse.connect import connect
from hl_pipeline.warehouse.spending import Spending, read_spent
from hl_pipeline_tests.processes import free_port, wait_until
from hl_pipeline_tests.profiles import few
from hl_pipeline_tests.servers.flaky_s3 import Fault, FlakyS3, Kind
from hl_pipeline_tests.servers.s3 import REGION, FreeMeter, S3Server

PRICE = Decimal("0.114")
LIST, GET = Decimal("0.0047") / 1000, Decimal("0.00037") / 1000
_TIMEOUT = 3.0


@pytest.fixture
def name(s3: S3Server) -> str:
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


@pytest.fixture
def objects(s3: S3Server, name: str) -> dict[str, bytes]:
    """What is in the bucket `name`, under `some/`: objects that do not compress, one of them empty."""
    made = {f"{n}.lz4": random.Random(n).randbytes(size) for n, size in enumerate([300_000, 1, 70_001, 0, 1_200_000])}
    for key, body in made.items():
        s3.client().put_object(Bucket=name, Key=f"some/{key}", Body=body)
    return made


def _settings(database_url: str, **given: Any) -> Settings:
    return Settings.model_validate({"database_url": database_url, **given})


@pytest.fixture
def bucket(flaky: FlakyS3, name: str, database_url: str) -> S3Bucket:
    del flaky
    return _open(name, Spending(_settings(database_url), PRICE, "a-run"))


def _open(name: str, meter: Any, attempts: int = 4) -> S3Bucket:
    given = {"attempts": attempts, "backoff_seconds": 0.001, "timeout_seconds": _TIMEOUT, "link": Link()}
    return open_s3_bucket(f"s3://{name}/some", REGION, meter, **given)


def _listed(bucket: S3Bucket, key: str) -> SourceObject:
    return next(found for found in bucket.list_objects("") if found.key == key)


def _bring(bucket: S3Bucket, found: SourceObject) -> bytes:
    with bucket.open(found) as stream:
        return stream.read()


def _assert_ledger_is_log(database_url: str, flaky: FlakyS3) -> None:
    """Each request of the proxy's log, with the bytes that it sent, is a row, and costs what they cost. (The status of a listing
    that was cut off is botocore's.)
    """
    with connect(database_url) as connection:
        rows = connection.execute("SELECT method, status, bytes, dollars, seconds FROM hl.s3_requests").fetchall()
    assert Counter((row[0], row[2]) for row in rows) == Counter((sent.method, sent.bytes) for sent in flaky.log)
    gets = [(sent.status, sent.bytes) for sent in flaky.log if sent.method == "GET"]
    assert Counter(row[1:3] for row in rows if row[0] == "GET") == Counter(gets)
    assert all(dollars == (LIST if method == "LIST" else GET) + size * PRICE / 10**9 for method, _, size, dollars, _ in rows)
    assert all(row[4] >= 0 for row in rows)


def _rows(database_url: str) -> list[tuple[Any, ...]]:
    with connect(database_url) as connection:
        return connection.execute("SELECT method, key, status, bytes, error, run_id FROM hl.s3_requests ORDER BY id").fetchall()


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("500", 500, "it answered 500 InternalError: told to"),
        ("502", 502, "it answered 502 BadGateway: told to"),
        ("503", 503, "it answered 503 SlowDown: told to"),
        ("400", 400, "it answered 400 RequestTimeout: told to"),
        ("reset", None, "Connection"),
        ("cut", 200, "received 150000 of 300000 listed bytes"),
        pytest.param("stall", 200, "timed out", marks=pytest.mark.slow),
        ("short", 200, "received 150000 of 300000 listed bytes"),
        ("extra", 200, "received 300007 bytes, but 300000 were listed"),
        ("flipped", 200, "the MD5 of its bytes is "),
    ],
)
def test_what_fails_in_passing_is_tried_again_and_the_object_is_what_was_put(
    kind: Kind, status: int | None, error: str, bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    found = _listed(bucket, "0.lz4")
    flaky.faults.append(Fault(kind))
    assert _bring(bucket, found) == objects["0.lz4"]
    _, failed, last = _rows(database_url)
    assert (failed[0], failed[1], failed[2]) == ("GET", "0.lz4", status)
    assert error in failed[4]
    assert last[2:] == (206 if kind in ("cut", "stall", "short") else 200, last[3], None, "a-run")
    _assert_ledger_is_log(database_url, flaky)


def test_a_cut_body_goes_on_from_its_last_byte_and_no_byte_is_paid_twice(
    bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    found = _listed(bucket, "4.lz4")
    flaky.faults += [Fault("cut", 0.3), Fault("reset"), Fault("cut", 0.9)]
    assert _bring(bucket, found) == objects["4.lz4"]
    gets = [sent for sent in flaky.log if sent.method == "GET"]
    assert [sent.range for sent in gets] == [None, "bytes=360000-", "bytes=360000-", "bytes=1116000-"]
    assert sum(sent.bytes for sent in gets) == len(objects["4.lz4"])
    _assert_ledger_is_log(database_url, flaky)


def test_a_server_that_knows_no_ranges_is_asked_no_more_than_it_takes(
    bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    found = _listed(bucket, "0.lz4")
    flaky.faults += [Fault("cut", 0.3), Fault("no ranges")]
    assert _bring(bucket, found) == objects["0.lz4"]
    assert [(sent.status, sent.bytes) for sent in flaky.log[1:]] == [(200, 90_000), (200, 300_000)]
    _assert_ledger_is_log(database_url, flaky)


def test_a_length_that_tells_of_more_is_not_waited_for_when_all_is_there(
    bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    found = _listed(bucket, "0.lz4")
    flaky.faults.append(Fault("long"))
    assert _bring(bucket, found) == objects["0.lz4"]
    assert len(flaky.log) == 2
    _assert_ledger_is_log(database_url, flaky)


@pytest.mark.parametrize(
    ("faults", "error", "message", "requests"),
    [
        (["403"], BucketError, r"^0\.lz4: s3://.* answered 403 AccessDenied: told to\. .*s3:GetObject.*hl acknowledge", 1),
        (
            ["404"],
            BucketError,
            r"^0\.lz4: it was listed in s3://.*, but no longer exists \(404 NoSuchKey: told to\)\. Run again",
            1,
        ),
        (["changed"], BucketError, r"^0\.lz4: it changed between listing and download\. Run again", 1),
        (["flipped", "flipped"], BucketError, r"^0\.lz4: the MD5 of its bytes is \w{32}, but its ETag is \w{32}, twice", 2),
        (
            ["503"] * 4,
            BucketError,
            r"^0\.lz4: s3://.*: it answered 503 SlowDown: told to, after 4 attempts\. Run again",
            4,
        ),
        (["extra"] * 4, BucketError, r"^0\.lz4: .*received 300007 bytes, but 300000 were listed, after 4 attempts", 4),
        (["reset"] * 4, BucketError, r"^0\.lz4: .*Connection.*, after 4 attempts", 4),
    ],
)
def test_a_lasting_failure_is_an_error_with_its_remedy_and_the_next_object_comes(
    faults: list[Kind],
    error: type[BucketError],
    message: str,
    requests: int,
    bucket: S3Bucket,
    flaky: FlakyS3,
    objects: dict[str, bytes],
    database_url: str,
) -> None:
    first, second = _listed(bucket, "0.lz4"), _listed(bucket, "2.lz4")
    flaky.faults += [Fault(kind) for kind in faults]
    with pytest.raises(BucketError, match=message) as raised:
        _bring(bucket, first)
    assert type(raised.value) is error
    assert len(flaky.log) - 2 == requests
    assert all(row[4] is not None for row in _rows(database_url)[2:])
    assert _bring(bucket, second) == objects["2.lz4"]
    _assert_ledger_is_log(database_url, flaky)


def test_a_port_where_nobody_listens_is_tried_again_and_then_named(
    flaky: FlakyS3, name: str, monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    bucket = _open(name, Spending(_settings(database_url), PRICE), attempts=3)
    with pytest.raises(BucketError, match=r"Could not connect to the endpoint .*, after 3 attempts"):
        bucket.list_objects("")
    assert [row[2:4] for row in _rows(database_url)] == [(None, 0)] * 3
    assert flaky.log == []


def test_a_drip_is_no_body(flaky: FlakyS3, bucket: S3Bucket, objects: dict[str, bytes]) -> None:
    """A byte now and then keeps the socket from timing out."""
    from hl_pipeline.sources.s3 import TransientError, _pieces

    class Dripping:
        def read1(self, _: int) -> bytes:
            time.sleep(0.02)
            return b"x"

    with pytest.raises(TransientError, match=r"slow: \d+ bytes in"):
        list(_pieces(Dripping(), 0.1))  # pyright: ignore[reportArgumentType]
    del flaky, bucket, objects


@pytest.mark.parametrize("kind", few(["503", "cut", "500", "reset"], 2))
def test_a_listing_is_tried_again_page_by_page(
    kind: Kind, bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    bucket.client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 2})
    flaky.faults += [Fault(kind, on="LIST"), Fault(kind, on="LIST", key="continuation-token")]
    assert {found.key: found.size for found in bucket.list_objects("")} == {key: len(body) for key, body in objects.items()}
    assert [row[4] is None for row in _rows(database_url)] == [False, True, False, True, True]
    _assert_ledger_is_log(database_url, flaky)


@pytest.mark.parametrize("seed", few(range(8), 3))
def test_any_sequence_of_faults_and_runs_ends_with_the_bytes_that_were_put(
    seed: int, bucket: S3Bucket, flaky: FlakyS3, objects: dict[str, bytes], database_url: str
) -> None:
    flaky.random.seed(seed)
    flaky.chance = 0.45
    brought: dict[str, bytes] = {}
    for _ in range(40):
        try:
            listing = bucket.list_objects("")
        except BucketError:
            continue
        for found in listing:
            if found.key not in brought:
                try:
                    brought[found.key] = _bring(bucket, found)
                except BucketError as error:
                    assert found.key in str(error)  # noqa: PT017
        if len(brought) == len(objects):
            break
    assert brought == objects
    _assert_ledger_is_log(database_url, flaky)


def test_an_etag_that_is_no_md5_is_not_taken_for_one(s3: S3Server, flaky: FlakyS3, name: str, database_url: str) -> None:
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=name, Key="some/parts")["UploadId"]
    part = client.upload_part(Bucket=name, Key="some/parts", UploadId=upload, PartNumber=1, Body=b"of parts")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    client.complete_multipart_upload(Bucket=name, Key="some/parts", UploadId=upload, MultipartUpload=parts)
    client.put_object(Bucket=name, Key="some/secret", Body=b"kms", ServerSideEncryption="aws:kms")
    bucket = _open(name, Spending(_settings(database_url), PRICE))
    assert {found.key: _bring(bucket, found) for found in bucket.list_objects("")} == {"parts": b"of parts", "secret": b"kms"}
    assert len(flaky.log) == 3


def _bring_and_stall(name: str, database_url: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    bucket = open_s3_bucket(
        f"s3://{name}/some",
        REGION,
        Spending(_settings(database_url), PRICE, "killed"),
        attempts=1,
        backoff_seconds=0,
        timeout_seconds=60,
        link=Link(),
    )
    _bring(bucket, _listed(bucket, "0.lz4"))


def test_downloads_share_the_throughput_that_is_allowed(
    flaky: FlakyS3, name: str, objects: dict[str, bytes], database_url: str
) -> None:
    del flaky
    bucket = dataclasses.replace(_open(name, Spending(_settings(database_url), PRICE)), link=Link(3))
    listed = bucket.list_objects("")
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda found: _bring(bucket, found), listed)) == [objects[found.key] for found in listed]
    assert time.monotonic() - began >= sum(map(len, objects.values())) / 3e6


def test_a_killed_run_leaves_what_its_request_could_have_cost(
    flaky: FlakyS3, s3: S3Server, name: str, objects: dict[str, bytes], database_url: str
) -> None:
    flaky.faults.append(Fault("stall"))
    environment = {**s3.environment, "AWS_ENDPOINT_URL": flaky.url}
    process = multiprocessing.get_context("forkserver").Process(target=_bring_and_stall, args=(name, database_url, environment))
    process.start()
    wait_until(lambda: len(flaky.log) == 2, 60, "its GET")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert _rows(database_url)[1] == ("GET", "0.lz4", None, len(objects["0.lz4"]), "not finished", "killed")
    with connect(database_url) as connection:
        assert read_spent(connection).dollars >= GET + 300_000 * PRICE / 10**9


def test_the_budget_stops_before_the_request_that_exceeds_it_a_larger_one_goes_on(
    flaky: FlakyS3, name: str, objects: dict[str, bytes], database_url: str
) -> None:
    listing = _open(name, FreeMeter()).list_objects("")
    in_order = sorted(listing, key=lambda found: found.key)
    asked = len(flaky.log)
    # Enough for the first two objects, and a byte too little for the third.
    budget = 3 * GET + (300_000 + 1 + 70_000) * PRICE / 10**9
    poor = _open(name, Spending(_settings(database_url, s3_budget_usd=budget), PRICE))
    assert [_bring(poor, found) for found in in_order[:2]] == [objects["0.lz4"], objects["1.lz4"]]
    said = r"HL_S3_BUDGET_USD: \$0\.000035 of \$0\.0000432\d+ for .* GET 2\.lz4 \(0\.1 MB\) can cost \$0\.000008, so .*run again"
    with pytest.raises(BudgetError, match=said):
        _bring(poor, in_order[2])
    assert len(flaky.log) == asked + 2
    rich = _open(name, Spending(_settings(database_url, s3_budget_usd=budget + PRICE / 10**9), PRICE))
    assert _bring(rich, in_order[2]) == objects["2.lz4"]


def test_a_retry_is_paid_from_the_budget_too(flaky: FlakyS3, name: str, objects: dict[str, bytes], database_url: str) -> None:
    found = _listed(_open(name, FreeMeter()), "0.lz4")
    flaky.faults += [Fault("flipped"), Fault("cut", 0.9)]
    budget = 2 * (GET + len(objects["0.lz4"]) * PRICE / 10**9)
    spending = Spending(_settings(database_url, s3_budget_usd=budget), PRICE)
    with pytest.raises(BudgetError):
        _bring(_open(name, spending), found)
    with connect(database_url) as connection:
        spent = read_spent(connection)
    assert (spent.requests, spent.dollars) == (2, spending.dollars)
    assert spent.dollars <= budget


def test_other_months_are_not_this_months_money(database_url: str, connection: psycopg.Connection) -> None:
    connection.execute(
        "INSERT INTO hl.s3_requests (at, bucket, method, key, bytes, dollars) SELECT at, 'b', 'GET', 'k', 0, 5 FROM unnest(ARRAY["
        "date_trunc('month', now(), 'UTC') - interval '1 second', date_trunc('month', now(), 'UTC')]) at"
    )
    assert (read_spent(connection).requests, read_spent(connection).dollars) == (1, 5)
    Spending(_settings(database_url, s3_budget_usd="5.1"), PRICE).begin("GET", "b", "k", 0)
    with pytest.raises(BudgetError):
        Spending(_settings(database_url, s3_budget_usd="5"), PRICE).begin("GET", "b", "k", 0)


def _spend_all(database_url: str) -> None:
    """Takes cents until there are none."""
    settings = _settings(database_url, s3_budget_usd="0.25", s3_price_per_1000_gets="10")
    spending = Spending(settings, PRICE, str(os.getpid()))
    while True:
        try:
            spending.begin("GET", "b", "k", 0)
        except BudgetError:
            return


def test_processes_at_once_do_not_take_the_same_last_cent(database_url: str, connection: psycopg.Connection) -> None:
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_spend_all, args=(database_url,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert connection.execute("SELECT count(*), sum(dollars) FROM hl.s3_requests").fetchone() == (25, Decimal("0.25"))
