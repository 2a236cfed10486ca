"""What the error answers of S3 mean: whether each may pass, whether it is one object's failure or the whole bucket's, and what to
do. S3's own words stand in every message. Nothing here sends a request.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    MissingDependencyException,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)

from hl_pipeline.domain.budgets import Method
from hl_pipeline.domain.errors import BucketDeniedError, BucketError

AGAIN = "Run again: it retries just what is not there"

# 52x: Cloudflare's own, between it and the store.
_PASSING_STATUSES = {408, 429, 500, 502, 503, 504, *range(520, 528)}
_PASSING_CODES = {
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
}
# What makes these permanent is what was asked, whatever the status says.
_NEVER_PASSING = {"NotImplemented", "MethodNotAllowed"}
_OUR_CALLS = {"ListObjectsV2", "GetObject"}

_ACCESS_KEY = "It does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL"
_SECRET = "The secret key is not that of the access key, or something on the way changes requests: check AWS_SECRET_ACCESS_KEY"
_EXPIRED = "The credentials have expired: get new ones (aws sso login, aws login, a new AWS_SESSION_TOKEN), then run again"
_TOKEN = "AWS_SESSION_TOKEN must be of the same credentials as AWS_ACCESS_KEY_ID; unset it where the keys are permanent"
_CLOCK = "The clock of this machine is off: set it (timedatectl set-ntp true), then run again"
_NO_BUCKET = "There is no such bucket: check {setting}_URL"
_OWNER = "Only the owner of the bucket, or of the account of these credentials, can mend that"
_ADVICE = {
    "401": _ACCESS_KEY,
    "Unauthorized": _ACCESS_KEY,
    "InvalidAccessKeyId": _ACCESS_KEY,
    "SignatureDoesNotMatch": _SECRET,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _TOKEN,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "InvalidBucketName": _NO_BUCKET,
    "NoSuchBucket": _NO_BUCKET,
    "AccountProblem": _OWNER,
    "AllAccessDisabled": _OWNER,
    "InvalidPayer": _OWNER,
    "InvalidSecurity": _OWNER,
    "NotSignedUp": _OWNER,
}
"""What to do about codes that are never one object's failure, wherever they come."""
_ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "Redirect",
    "TemporaryRedirect",
}
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError"}
# Not all of an answer may be shown: that of an expired token repeats the token.
_SHOWN_MEMBERS = ("RequestTime", "ServerTime", "StorageClass", "AccessTier", "Region", "Endpoint", "Header", "Condition")

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    LoginError,
    MetadataRetrievalError,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
    UnknownCredentialError,
)


class PassingError(BucketError):
    """A failure that may pass: worth another attempt."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as messages name it: the bucket's URL, the key (or prefix), and how the bucket's settings begin."""

    url: str
    method: Method
    key: str
    setting: str
    requester_pays: bool


def error_of_answer(asked: Asked, error: ClientError) -> BucketError:
    """What an error answer means: PassingError; BucketDeniedError, when nothing of the bucket can be read until that is mended;
    else a BucketError, which is the failure of this object alone.
    """
    answer: Mapping[str, Any] = error.response
    members: Mapping[str, Any] = answer.get("Error", {})
    metadata: Mapping[str, Any] = answer.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(members.get("Code") or status)
    words = _words_of(status, code, members)
    if code not in _NEVER_PASSING and (status in _PASSING_STATUSES or code in _PASSING_CODES):
        return PassingError(f"it answered {words}")
    if error.operation_name not in _OUR_CALLS:
        return BucketDeniedError(
            f"{asked.url}: no AWS credentials: {error.operation_name} answered {words}. Check the profile and its role"
        )
    if advice := _advise_on_bucket(asked, status, code, error):
        return BucketDeniedError(f"{asked.url} answered {words}. {advice}")
    if asked.method == "LIST" and status == 403:
        return BucketDeniedError(f"{asked.url}: access denied to {asked.key}: it answered {words}. {_advise_on_listing(asked)}")
    if asked.method == "LIST":
        check = f"Check {asked.setting}_URL, {asked.setting}_REGION and AWS_ENDPOINT_URL"
        return BucketDeniedError(f"{asked.url} answered {words} when {asked.key or 'all of it'} was to be listed. {check}")
    return _error_of_object(asked, status, code, words)


def error_of_setup(url: str, error: BotoCoreError) -> BucketDeniedError:
    """What it means that no request could be made at all: there are no credentials, or AWS's own configuration cannot be used."""
    if isinstance(error, NoCredentialsError):
        return BucketDeniedError(
            f"{url}: no AWS credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, MissingDependencyException):
        install = f'uv pip install --python {sys.executable} "boto3[crt]"'
        return BucketDeniedError(
            f"{url}: these AWS credentials need a package that is not there: {install}. Or take them over as variables: "
            f'eval "$(aws configure export-credentials --format env)". {error}'
        )
    return BucketDeniedError(f"{url}: {'no AWS credentials: ' if isinstance(error, _NO_CREDENTIALS) else ''}{error}")


def _words_of(status: int, code: str, members: Mapping[str, Any]) -> str:
    """Status, code, message and whatever else may be shown of an answer."""
    message = str(members.get("Message") or "").strip().rstrip(".")
    more = "; ".join(f"{name} {members[name]}" for name in _SHOWN_MEMBERS if members.get(name))
    named = f"{status} {code}" if code != str(status) else code
    return f"{named}{f': {message}' if message else ''}{f' ({more})' if more else ''}"


def _advise_on_bucket(asked: Asked, status: int, code: str, error: ClientError) -> str | None:
    """What to do about an answer that every request to the bucket would get; None: it is of this key alone."""
    answer: Mapping[str, Any] = error.response
    if code in _ADVICE:
        return _ADVICE[code].format(setting=asked.setting)
    if code in _ELSEWHERE or 300 <= status < 400:
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = answer.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region")
        if region:
            return f"The bucket is in the region {region}: set {asked.setting}_REGION={region}"
        return f"The bucket is in another region: set {asked.setting}_REGION, or AWS_ENDPOINT_URL"
    if code in _NEVER_PASSING or status == 501:
        lacks = "The store lacks what was asked of it"
        off = f"; where nobody pays for requests, set {asked.setting}_REQUESTER_PAYS=false to leave out the header that says so"
        return lacks + off * asked.requester_pays
    return None


def _advise_on_listing(asked: Asked) -> str:
    flag = f"the requester-pays flag was {'' if asked.requester_pays else 'not '}sent"
    on = "" if asked.requester_pays else f"; {asked.setting}_REQUESTER_PAYS=true sends it"
    return (
        "Check the credentials (aws sts get-caller-identity), that they may call s3:ListBucket and s3:GetObject on this bucket, "
        f"its region; {flag}{on}"
    )


def _error_of_object(asked: Asked, status: int, code: str, words: str) -> BucketError:
    if status == 404:
        return BucketError(f"{asked.key}: it was listed in {asked.url}, but is not there ({words}). {AGAIN}")
    if status == 412:
        return BucketError(f"{asked.key}: it changed between listing and download. {AGAIN}")
    refused = f"{asked.key}: {asked.url} answered {words}"
    if code in _ARCHIVED:
        return BucketError(f"{refused}. It is archived: its owner has to restore it; if nobody will, `hl acknowledge` takes note")
    if status == 403:
        return BucketError(
            f"{refused}. The bucket could be listed, so this object has a policy or an ACL of its own, or the credentials lack "
            "s3:GetObject; if it stays so, `hl acknowledge` takes note"
        )
    return BucketError(f"{refused}. {AGAIN}")
