"""Sources of objects: hours by name, a directory, and a requester-pays S3 server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from hl_pipeline.domain.datasets import BY_BLOCK
from hl_pipeline.domain.errors import BucketDeniedError, BucketError
from hl_pipeline.domain.records import IgnoredObject, SourceObject
from hl_pipeline.sources.buckets import Bucket, DirectoryBucket, list_dataset, list_hours, open_bucket
from hl_pipeline.sources.s3 import Link, S3Bucket, open_s3_bucket
from hl_pipeline_tests.servers.s3 import REGION, FreeMeter, S3Server

PREFIX = "node_fills_by_block/hourly/20260315/"
SOURCE = "node_fills_by_block"
DAY = date(2026, 3, 15)


@pytest.fixture
def lay_out(s3: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str, list[str]], Bucket]:
    """Make a bucket of a kind with objects of these names, each holding its own name."""

    def make(kind: str, names: list[str]) -> Bucket:
        if kind == "directory":
            for name in names:
                path = tmp_path / PREFIX / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(name.encode())
            return open_bucket(str(tmp_path), lambda: pytest.fail("a directory needs no S3"))
        client = s3.client()
        bucket = f"b{abs(hash(request.node.name))}"
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        for name in names:
            client.put_object(Bucket=bucket, Key=f"mirror/{PREFIX}{name}", Body=name.encode())
        return S3Bucket(f"s3://{bucket}/mirror", _paying_nothing(s3), FreeMeter())

    return make


def _paying_nothing(s3: S3Server) -> Any:
    """A client that does not pay of itself: our code must say so in each call."""
    return boto3.client("s3", endpoint_url=s3.url, region_name=REGION, aws_access_key_id="t", aws_secret_access_key="t")


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_hours_are_told_by_their_names_and_junk_is_no_hour(kind: str, lay_out: Callable[[str, list[str]], Bucket]) -> None:
    names = ["0.lz4", "1.lz4", "10.lz4", "11.lz4", "2.lz4", "9.lz4", "23.lz4"]
    junk = ["._9.lz4", "24.lz4", "9.lz4.tmp", "x.lz4", "123.lz4", "3.zst", "-1.lz4"]
    bucket = lay_out(kind, names + junk)
    hours = list_hours(bucket, SOURCE, DAY)
    assert list(hours) == [0, 1, 2, 9, 10, 11, 23]
    assert {hour: found.key for hour, found in hours.items()} == {hour: f"{PREFIX}{hour}.lz4" for hour in hours}
    with bucket.open(hours[10]) as stream:
        assert stream.read() == b"10.lz4"


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_gz_copy_is_taken_where_there_is_no_lz4_and_the_unpadded_name_first(
    kind: str, lay_out: Callable[[str, list[str]], Bucket]
) -> None:
    hours = list_hours(lay_out(kind, ["4.gz", "5.gz", "5.lz4", "06.lz4", "7.lz4", "07.lz4"]), SOURCE, DAY)
    assert [found.key.removeprefix(PREFIX) for found in hours.values()] == ["4.gz", "5.lz4", "06.lz4", "7.lz4"]
    assert [found.codec for found in hours.values()] == ["gz", "lz4", "lz4", "lz4"]


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_hours_of_a_nodes_directory_and_of_mirrors_are_taken(kind: str, lay_out: Callable[[str, list[str]], Bucket]) -> None:
    names = ["0", "1.jsonl", "2.json", "3.ndjson", "4.jsonl.lz4", "5", "5.lz4", "6", "6.gz", "07", "7.json", "23"]
    hours = list_hours(lay_out(kind, names), SOURCE, DAY)
    taken = {hour: found.key.removeprefix(PREFIX) for hour, found in hours.items()}
    assert taken == {
        0: "0", 1: "1.jsonl", 2: "2.json", 3: "3.ndjson", 4: "4.jsonl.lz4", 5: "5.lz4", 6: "6.gz", 7: "07", 23: "23"
    }  # fmt: skip
    assert [found.hour for found in hours.values()] == list(hours)


@pytest.mark.parametrize("days", [1, 30])
def test_what_is_not_understood_is_named_and_what_is_hidden_is_not(
    days: int, lay_out: Callable[[str, list[str]], Bucket]
) -> None:
    bucket = lay_out("directory", ["0.lz4", "1.zst", "2.lz4.part", "24", ".DS_Store", "_SUCCESS"])
    ignored: list[IgnoredObject] = []
    listing = list_dataset(bucket, BY_BLOCK, DAY, DAY + timedelta(days=days - 1), ignored)
    assert [found.key for found in listing[DAY]] == [f"{PREFIX}0.lz4"]
    assert sorted(found.key for found in ignored) == [f"{PREFIX}{name}" for name in ("1.zst", "2.lz4.part", "24")]
    assert {found.reason for found in ignored} == {"not named like an hour (9.lz4, 9.gz, 9.jsonl, 9.json or 9)"}


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_day_that_is_not_there_has_no_hours(kind: str, lay_out: Callable[[str, list[str]], Bucket]) -> None:
    assert list_hours(lay_out(kind, ["1.lz4"]), SOURCE, date(2026, 3, 16)) == {}


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_an_object_that_went_away_is_an_error_that_names_it(kind: str, lay_out: Callable[[str, list[str]], Bucket]) -> None:
    bucket = lay_out(kind, ["1.lz4"])
    gone = SourceObject(PREFIX + "2.lz4", "etag", 5, list_hours(bucket, SOURCE, DAY)[1].modified)
    with pytest.raises(BucketError, match=r"hourly/20260315/2\.lz4"), bucket.open(gone):
        pass


def test_an_object_that_changed_since_it_was_listed_is_not_taken_for_it(
    lay_out: Callable[[str, list[str]], Bucket], s3: S3Server
) -> None:
    bucket = lay_out("s3", ["1.lz4"])
    listed = list_hours(bucket, SOURCE, DAY)[1]
    name = bucket.url.removeprefix("s3://").removesuffix("/mirror")
    s3.client().put_object(Bucket=name, Key=f"mirror/{listed.key}", Body=b"another")
    with pytest.raises(BucketError, match=r"1\.lz4: it changed between listing and download"), bucket.open(listed):
        pass


def test_refused_is_never_taken_for_empty(s3: S3Server) -> None:
    client = s3.client()
    client.create_bucket(Bucket="refusing", CreateBucketConfiguration={"LocationConstraint": REGION})
    # A bucket of an S3 server that refuses: here because this client takes the header away again.
    mean = _paying_nothing(s3)
    mean.meta.events.register("before-sign.s3", lambda request, **_: request.headers.__delitem__("x-amz-request-payer"))
    bucket = S3Bucket("s3://refusing", mean, FreeMeter())
    with pytest.raises(
        BucketDeniedError, match=r"access denied .*403 AccessDenied: Access Denied\. Check the credentials .* flag was sent"
    ):
        list_hours(bucket, SOURCE, DAY)


def test_without_credentials_it_says_which_variables_to_set(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    bucket = open_s3_bucket("s3://real", REGION, FreeMeter(), attempts=6, backoff_seconds=1, timeout_seconds=5, link=Link())
    with pytest.raises(BucketDeniedError, match="no AWS credentials found; set AWS_PROFILE"):
        list_hours(bucket, SOURCE, DAY)


def test_every_call_says_that_the_requester_pays(lay_out: Callable[[str, list[str]], Bucket], s3: S3Server) -> None:
    bucket = lay_out("s3", ["1.lz4"])
    before = len(s3.requests)
    with bucket.open(list_hours(bucket, SOURCE, DAY)[1]):
        pass
    ours = s3.requests[before:]
    assert [(method, pays) for method, _, pays in ours] == [("GET", True), ("GET", True)]


def test_a_url_that_is_nothing_is_refused_by_name() -> None:
    with pytest.raises(BucketError, match="HL_NODE_DATA_URL: /nowhere is neither s3://bucket/prefix nor an existing directory"):
        open_bucket("/nowhere", lambda: pytest.fail("no S3"))


def test_a_changed_file_of_a_directory_has_another_etag(tmp_path: Path) -> None:
    path = tmp_path / PREFIX / "1.lz4"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a")
    before = list_hours(DirectoryBucket(str(tmp_path)), SOURCE, DAY)[1].etag
    path.write_bytes(b"bb")
    assert list_hours(DirectoryBucket(str(tmp_path)), SOURCE, DAY)[1].etag != before


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_listing_can_begin_after_a_key(lay_out: Callable[[str, list[str]], Bucket], kind: str) -> None:
    bucket = lay_out(kind, ["1.lz4", "10.lz4", "2.lz4"])
    [first, second, third] = sorted(found.key for found in bucket.list_objects("", deep=True))
    assert sorted(found.key for found in bucket.list_objects("", deep=True, after=first)) == [second, third]
    assert bucket.list_objects("", deep=True, after=third) == []
