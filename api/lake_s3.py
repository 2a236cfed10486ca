"""The lake on S3 as a file system for DuckDB, whose own one for S3 is an extension to download."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pyarrow.fs as pa_fs
from fsspec.implementations.arrow import ArrowFSWrapper

from api.lake_files import LakeUnreadableError

_IMMUTABLE = "/iceberg/"
_ALWAYS = datetime(2023, 1, 1, tzinfo=UTC)


def open_s3(url: str, protocol_name: str) -> ArrowFSWrapper:
    """Return a file system for paths like `protocol_name://bucket/key`. Credentials and endpoint are those of boto3."""

    class LakeOnS3(ArrowFSWrapper):
        protocol = (protocol_name,)  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

        def modified(self, path: str) -> datetime:
            """DuckDB keeps parts of a file until this changes. Hours are replaced in place, sometimes twice a second."""
            return _ALWAYS if _IMMUTABLE in path else datetime.now(UTC)

    session = boto3.Session()
    credentials = session.get_credentials()
    if credentials is None:
        raise LakeUnreadableError(f"{url}: no AWS credentials found; set AWS_PROFILE or AWS_ACCESS_KEY_ID")
    client: Any = session.client("s3")
    scheme, _, host = client.meta.endpoint_url.partition("://")
    filesystem = pa_fs.S3FileSystem(
        access_key=credentials.access_key,
        secret_key=credentials.secret_key,
        session_token=credentials.token,
        region=client.meta.region_name,
        endpoint_override=host,
        scheme=scheme,
    )
    bucket = url.removeprefix("s3://").partition("/")[0]
    if filesystem.get_file_info(bucket).type == pa_fs.FileType.NotFound:
        raise LakeUnreadableError(f"{url}: the bucket does not exist")
    return LakeOnS3(filesystem)
