"""Interprets error responses of S3: whether each is transient, whether it concerns one object or the whole bucket, and what to
do.

Every message has S3's own text. Nothing here sends a request.
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

AGAIN = "Run again: it retries only the missing objects"

# 52x: errors of Cloudflare between it and the store.
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
# These are permanent because of the request, whatever the status.
_NEVER_PASSING = {"NotImplemented", "MethodNotAllowed"}
_OUR_CALLS = {"ListObjectsV2", "GetObject"}

_ACCESS_KEY = "The store does not know these credentials: check AWS_PROFILE or AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL"
_SECRET = "The secret key does not match the access key, or a proxy changes requests: check AWS_SECRET_ACCESS_KEY"
_EXPIRED = "The credentials have expired: get new ones (aws sso login, aws login, a new AWS_SESSION_TOKEN), then run again"
_TOKEN = "AWS_SESSION_TOKEN must belong to AWS_ACCESS_KEY_ID; unset it for permanent keys"
_CLOCK = "The clock of this machine is wrong: set it (timedatectl set-ntp true), then run again"
_NO_BUCKET = "The bucket does not exist: check {setting}_URL"
_OWNER = "Only the owner of the bucket, or of the account of these credentials, can fix this"
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
"""Advice for codes that always concern the whole bucket."""
_ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "Redirect",
    "TemporaryRedirect",
}
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError"}
# Only these members are shown: the response for an expired token repeats the token.
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


class TransientError(BucketError):
    """A transient failure, worth a retry."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, for messages: the bucket's URL, the key or prefix, and the prefix of the bucket's settings."""

    url: str
    method: Method
    key: str
    setting: str
    requester_pays: bool


def error_of_answer(asked: Asked, error: ClientError) -> BucketError:
    """Convert an error response to a TransientError, to a BucketDeniedError if nothing can be read from the bucket until it is
    fixed, or to a BucketError that concerns only this object.
    """
    answer: Mapping[str, Any] = error.response
    members: Mapping[str, Any] = answer.get("Error", {})
    metadata: Mapping[str, Any] = answer.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    code = str(members.get("Code") or status)
    words = _words_of(status, code, members)
    if code not in _NEVER_PASSING and (status in _PASSING_STATUSES or code in _PASSING_CODES):
        return TransientError(f"it answered {words}")
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
        return BucketDeniedError(f"{asked.url} answered {words} when listing {asked.key or 'it'}. {check}")
    return _error_of_object(asked, status, code, words)


def error_of_setup(url: str, error: BotoCoreError) -> BucketDeniedError:
    """Convert an error before any request: no credentials, or an unusable AWS configuration."""
    if isinstance(error, NoCredentialsError):
        return BucketDeniedError(
            f"{url}: no AWS credentials found; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, MissingDependencyException):
        install = f'uv pip install --python {sys.executable} "boto3[crt]"'
        return BucketDeniedError(
            f"{url}: these AWS credentials need a package that is not installed: {install}. Or export them as variables: "
            f'eval "$(aws configure export-credentials --format env)". {error}'
        )
    return BucketDeniedError(f"{url}: {'no AWS credentials: ' if isinstance(error, _NO_CREDENTIALS) else ''}{error}")


def _words_of(status: int, code: str, members: Mapping[str, Any]) -> str:
    """Format status, code, message and the other displayable members of a response."""
    message = str(members.get("Message") or "").strip().rstrip(".")
    more = "; ".join(f"{name} {members[name]}" for name in _SHOWN_MEMBERS if members.get(name))
    named = f"{status} {code}" if code != str(status) else code
    return f"{named}{f': {message}' if message else ''}{f' ({more})' if more else ''}"


def _advise_on_bucket(asked: Asked, status: int, code: str, error: ClientError) -> str | None:
    """Return advice on a response that every request to the bucket would get, or None if it concerns only this key."""
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
        unsupported = "The store does not support this request"
        off = f"; without requester pays, set {asked.setting}_REQUESTER_PAYS=false to omit its header"
        return unsupported + off * asked.requester_pays
    return None


def _advise_on_listing(asked: Asked) -> str:
    flag = f"the requester-pays flag was {'' if asked.requester_pays else 'not '}sent"
    on = "" if asked.requester_pays else f"; {asked.setting}_REQUESTER_PAYS=true sends it"
    return (
        "Check the credentials (aws sts get-caller-identity), their permissions s3:ListBucket and s3:GetObject on this bucket, "
        f"and its region; {flag}{on}"
    )


def _error_of_object(asked: Asked, status: int, code: str, words: str) -> BucketError:
    if status == 404:
        return BucketError(f"{asked.key}: it was listed in {asked.url}, but no longer exists ({words}). {AGAIN}")
    if status == 412:
        return BucketError(f"{asked.key}: it changed between listing and download. {AGAIN}")
    refused = f"{asked.key}: {asked.url} answered {words}"
    if code in _ARCHIVED:
        return BucketError(
            f"{refused}. It is archived, so its owner must restore it. If that will not happen, use `hl acknowledge`"
        )
    if status == 403:
        return BucketError(
            f"{refused}. The bucket could be listed, so this object has its own policy or ACL, or the credentials do not have "
            "s3:GetObject. If this cannot be fixed, use `hl acknowledge`"
        )
    return BucketError(f"{refused}. {AGAIN}")
