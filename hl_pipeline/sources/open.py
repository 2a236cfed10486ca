"""Opens the sources that the settings name: the buckets and the info API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hl_pipeline.domain.budgets import Meter, WeightBudget
from hl_pipeline.domain.datasets import BucketName
from hl_pipeline.settings import NONE, Settings, variable
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import Bucket, open_bucket

if TYPE_CHECKING:
    from hl_pipeline.sources.info import InfoApi


def open_named_bucket(name: BucketName, settings: Settings, meter: Meter) -> Bucket | None:
    """Open a bucket, or a directory with its layout. Returns None if it is not configured. `meter` records each request to S3.

    Raises BucketError if it is neither s3:// nor an existing directory.
    """
    own = settings_of(name, settings)
    if not own.is_set:
        return None

    def open_s3() -> Bucket:
        # Imported here: boto3 is slow to import, and a directory does not need it.
        from hl_pipeline.sources.s3 import Link, open_s3_bucket

        return open_s3_bucket(
            own.url,
            own.region,
            meter,
            attempts=settings.s3_attempts,
            backoff_seconds=settings.s3_backoff_seconds,
            timeout_seconds=settings.s3_timeout_seconds,
            link=Link(settings.s3_megabytes_per_second),
            setting=variable(name),
            requester_pays=own.requester_pays,
        )

    return open_bucket(own.url, open_s3, variable(f"{name}_url"))


def open_info_api(settings: Settings, budget: WeightBudget) -> InfoApi:
    """Open the API at HL_INFO_URL, with calls limited by `budget`. Raises InfoError if it is disabled."""
    # Imported here: it imports requests, which runs of days do not need.
    from hl_pipeline.sources.info import InfoApi, InfoError

    if settings.info_url == NONE:
        raise InfoError(f"{variable('info_url')} is none: the info API is disabled")
    return InfoApi(
        settings.info_url,
        budget,
        attempts=settings.info_attempts,
        backoff_seconds=settings.info_backoff_seconds,
        timeout_seconds=settings.info_timeout_seconds,
    )
