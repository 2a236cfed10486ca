"""Errors from S3: its message is shown with fitting advice, permanent errors are not retried, and one object's failure does
not affect others. Also the errors for missing credentials.
"""

from __future__ import annotations

import re
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

from hl_pipeline.domain.errors import BucketDeniedError, BucketError
from hl_pipeline.domain.records import SourceObject
from hl_pipeline.sources.s3 import Link, S3Bucket, made_etag, open_s3_bucket
from hl_pipeline_tests.servers.flaky_s3 import Fault, FlakyS3
from hl_pipeline_tests.servers.s3 import REGION, FreeMeter, S3Server


def _error(code: str, message: str, more: str = "") -> str:
    return f"<Code>{code}</Code><Message>{message}</Message>{more}<RequestId>R</RequestId>"


_SKEWED = _error(
    "RequestTimeTooSkewed",
    "The difference between the request time and the current time is too large.",
    "<RequestTime>20260315T050000Z</RequestTime><ServerTime>2026-03-15T06:40:00Z</ServerTime>",
)
_EXPIRED = _error("ExpiredToken", "The provided token has expired.", "<Token-0>qwertz</Token-0>")
_DENIED_BY_POLICY = _error(
    "AccessDenied", "User: arn:aws:iam::1:user/u is not authorized with an explicit deny in a service control policy"
)
_PAYER = _error("NotImplemented", "Header 'x-amz-request-payer' with value 'requester' not implemented")
_REDIRECTED = _error(
    "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint."
)
_WRONG_REGION = _error("AuthorizationHeaderMalformed", "the region 'us-west-9' is wrong", "<Region>eu-south-2</Region>")
_ARCHIVED = _error(
    "InvalidObjectState", "The operation is not valid for the object's storage class", "<StorageClass>DEEP_ARCHIVE</StorageClass>"
)

OF_BUCKET = [
    (403, _SKEWED, r"too large \(RequestTime 20260315T050000Z; ServerTime 2026-03-15T06:40:00Z\)\. The clock of this machine"),
    (400, _EXPIRED, r"400 ExpiredToken: The provided token has expired\. The credentials have expired: get new ones"),
    (
        400,
        _error("TokenRefreshRequired", "The provided token must be refreshed."),
        r"must be refreshed\. The credentials have exp",
    ),
    (
        400,
        _error("InvalidToken", "The provided token is malformed."),
        r"is malformed\. AWS_SESSION_TOKEN must belong to AWS_ACCESS_KEY_ID",
    ),
    (403, _error("InvalidAccessKeyId", "The key does not exist."), r"does not exist\. The store does not know these credentials"),
    (
        403,
        _error("SignatureDoesNotMatch", "It does not match."),
        r"does not match\. The secret key does not match the access key",
    ),
    (403, _error("AllAccessDisabled", "All access is disabled."), r"is disabled\. Only the owner of the bucket"),
    (
        404,
        _error("NoSuchBucket", "The specified bucket does not exist"),
        r"does not exist\. The bucket does not exist: .*OWN_URL",
    ),
    (501, _PAYER, r"501 NotImplemented: Header 'x-amz-request-payer' .* set OWN_REQUESTER_PAYS=false"),
    (400, _WRONG_REGION, r"is wrong \(Region eu-south-2\)\. The bucket is in the region eu-south-2: set OWN_REGION=eu-south-2"),
    (301, _REDIRECTED, r"the specified endpoint\. The bucket is in the region eu-west-3: set OWN_REGION=eu-west-3"),
]


@pytest.fixture
def bucket(flaky: FlakyS3, s3: S3Server) -> S3Bucket:
    """With two objects."""
    del flaky
    name = f"b{uuid.uuid4().hex}"
    s3.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    for key in ("1.lz4", "2.lz4"):
        s3.client().put_object(Bucket=name, Key=key, Body=key.encode())
    return _open(name)


def _open(name: str, *, requester_pays: bool = True) -> S3Bucket:
    given = {"attempts": 3, "backoff_seconds": 0.001, "timeout_seconds": 5.0}
    return open_s3_bucket(f"s3://{name}", REGION, FreeMeter(), **given, link=Link(), setting="OWN", requester_pays=requester_pays)


def _asked(flaky: FlakyS3, method: str) -> int:
    return sum(sent.method == method and "1.lz4" in sent.path + "1.lz4" * (method == "LIST") for sent in flaky.log)


@pytest.mark.parametrize(("status", "error", "message"), OF_BUCKET)
@pytest.mark.parametrize("method", ["LIST", "GET"])
def test_what_every_request_would_be_answered_is_the_buckets_failure_at_once(
    method: Literal["LIST", "GET"], status: int, error: str, message: str, bucket: S3Bucket, flaky: FlakyS3
) -> None:
    found = bucket.list_objects("")[0]
    flaky.log.clear()
    header = ("x-amz-bucket-region", "eu-west-3") if status == 301 else None
    flaky.faults.append(Fault("answer", on=method, status=status, error=error, header=header, lasting=True))

    def ask() -> None:
        if method == "LIST":
            bucket.list_objects("")
        with bucket.open(found):
            pass

    with pytest.raises(BucketDeniedError, match=message) as raised:
        ask()
    assert "qwertz" not in str(raised.value)
    # If the response names the region, botocore itself retries there once.
    assert _asked(flaky, method) == (2 if status in (301, 400) and "egion" in message else 1)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, _ARCHIVED, r"^1\.lz4: s3://.* \(StorageClass DEEP_ARCHIVE\)\. It is archived, so its owner must restore it"),
        (
            403,
            _error("AccessDenied", "Access Denied"),
            r"^1\.lz4: .*403 AccessDenied: Access Denied\. The bucket could be listed",
        ),
        (403, _DENIED_BY_POLICY, r"^1\.lz4: .* with an explicit deny in a service control policy\. .*s3:GetObject"),
        (400, _error("InvalidRequest", "A key of yours is needed"), r"^1\.lz4: .*400 InvalidRequest: A key of yours is needed"),
        (403, "", r"^1\.lz4: .* answered 403"),
    ],
)
def test_one_objects_refusal_is_its_own_failure_with_the_words_of_s3(
    status: int, error: str, message: str, bucket: S3Bucket, flaky: FlakyS3
) -> None:
    first, second = bucket.list_objects("")
    flaky.faults.append(Fault("answer", key="1.lz4", status=status, error=error, lasting=True))
    with pytest.raises(BucketError, match=message) as raised, bucket.open(first):
        pass
    assert type(raised.value) is BucketError
    with bucket.open(second) as stream:
        assert stream.read() == b"2.lz4"
    assert _asked(flaky, "GET") == 1


def test_a_policy_that_denies_the_listing_is_quoted(bucket: S3Bucket, flaky: FlakyS3) -> None:
    flaky.faults.append(Fault("answer", on="LIST", status=403, error=_DENIED_BY_POLICY))
    said = r"403 AccessDenied: User: arn:.* explicit deny in a service control policy\. Check the credentials .* flag was sent$"
    with pytest.raises(BucketDeniedError, match=said):
        bucket.list_objects("")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 520])
def test_what_may_pass_is_asked_again_whatever_its_words(status: int, bucket: S3Bucket, flaky: FlakyS3) -> None:
    flaky.faults.append(Fault("answer", on="LIST", status=status, error=_error("Busy", "Come back later")))
    assert len(bucket.list_objects("")) == 2


def test_a_store_that_knows_no_requester_pays_works_when_the_setting_says_so(s3: S3Server, bucket: S3Bucket) -> None:
    s3.free.add(bucket.name)
    with pytest.raises(BucketDeniedError, match="OWN_REQUESTER_PAYS=false"):
        bucket.list_objects("")
    free = _open(bucket.name, requester_pays=False)
    for found in free.list_objects(""):
        with free.open(found) as stream:
            assert stream.read() == found.key.encode()


def test_a_bucket_that_wants_the_flag_says_how_to_send_it(bucket: S3Bucket) -> None:
    with pytest.raises(BucketDeniedError, match=r"flag was not sent; OWN_REQUESTER_PAYS=true sends it"):
        _open(bucket.name, requester_pays=False).list_objects("")


def test_a_listing_without_etags_tells_objects_by_size_and_time(bucket: S3Bucket, flaky: FlakyS3, s3: S3Server) -> None:
    flaky.faults.append(Fault("no etags", on="LIST", lasting=True))
    first, second = bucket.list_objects("")
    assert (first.etag, second.etag) == (bucket.list_objects("")[0].etag, second.etag)
    with bucket.open(first) as stream:
        assert stream.read() == b"1.lz4"
    s3.client().put_object(Bucket=bucket.name, Key="1.lz4", Body=b"another")
    assert bucket.list_objects("")[0].etag != first.etag


def test_an_object_of_such_a_listing_that_changed_since_is_not_taken(bucket: S3Bucket, flaky: FlakyS3) -> None:
    flaky.faults.append(Fault("no etags", on="LIST", lasting=True))
    found = bucket.list_objects("")[0]
    earlier = found.modified - timedelta(hours=1)
    older = SourceObject(found.key, made_etag(found.size, earlier), found.size, earlier)
    with pytest.raises(BucketError, match=r"^1\.lz4: it changed between listing and download"), bucket.open(older):
        pass


def test_credentials_of_a_process_are_used(bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    told = '{\\"Version\\": 1, \\"AccessKeyId\\": \\"a\\", \\"SecretAccessKey\\": \\"b\\"}'
    config.write_text(f"[default]\ncredential_process = sh -c \"echo '{told}'\"\n")
    assert len(_open(bucket.name).list_objects("")) == 2
    config.write_text("[default]\ncredential_process = sh -c \"echo 'vault is sealed' >&2; exit 3\"\n")
    with pytest.raises(BucketDeniedError, match=r"no AWS credentials: .*custom-process: vault is sealed"):
        _open(bucket.name).list_objects("")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[default]\nlogin_session = arn:aws:iam::1:user/u\n", f'uv pip install --python {re.escape(sys.executable)} "boto3'),
        (
            "[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
            "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://x.awsapps.com/start\n",
            "no AWS credentials: .*",
        ),
        ("[profile other]\n", "no AWS credentials: The config profile \\(mine\\) could not be found"),
    ],
)
def test_credentials_that_cannot_be_had_say_what_to_do(
    config: str, message: str, bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(config)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    if "default" not in config:
        monkeypatch.setenv("AWS_PROFILE", "mine")
    with pytest.raises(BucketDeniedError, match=message):
        _open(bucket.name).list_objects("")
