"""Open what the settings name: the buckets, the info API."""

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
    """A bucket, or a directory of its layout; None where it is not set. `meter` is told of each request to S3.

    Raises BucketError for what is neither s3:// nor a directory that exists.
    """
    own = settings_of(name, settings)
    if not own.is_set:
        return None

    def open_s3() -> Bucket:
        # Imported here: boto3 takes its time, and a directory needs none of it.
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
    """The API at HL_INFO_URL, called within `budget`. Raises InfoError where that is none."""
    # Imported here: with requests, which a run of days does without.
    from hl_pipeline.sources.info import InfoApi, InfoError

    if settings.info_url == NONE:
        raise InfoError(f"{variable('info_url')} is none: the info API is not asked")
    return InfoApi(
        settings.info_url,
        budget,
        attempts=settings.info_attempts,
        backoff_seconds=settings.info_backoff_seconds,
        timeout_seconds=settings.info_timeout_seconds,
    )
