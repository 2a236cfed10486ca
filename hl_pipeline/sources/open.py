"""Open what the settings name: the buckets, the info API."""

from __future__ import annotations

from hl_pipeline.domain.budgets import Meter, WeightBudget
from hl_pipeline.settings import NONE, Settings, variable
from hl_pipeline.sources.buckets import Bucket, open_bucket
from hl_pipeline.sources.info import InfoApi


def open_node_data(settings: Settings, meter: Meter) -> Bucket:
    """The bucket of fills, or a directory of its layout; `meter` is told of each request to S3.

    Raises BucketError for what is neither s3:// nor a directory that exists.
    """
    return _open(settings.node_data_url, settings.node_data_region, "node_data_url", settings, meter)


def open_twap_data(settings: Settings, meter: Meter) -> Bucket | None:
    """The bucket of TWAP statuses, as `open_node_data`; None where HL_TWAP_DATA_URL is `none`."""
    if settings.twap_data_url == NONE:
        return None
    return _open(settings.twap_data_url, settings.twap_data_region, "twap_data_url", settings, meter)


def open_info_api(settings: Settings, budget: WeightBudget) -> InfoApi:
    """The API at HL_INFO_URL, called within `budget`."""
    return InfoApi(
        settings.info_url,
        budget,
        attempts=settings.info_attempts,
        backoff_seconds=settings.info_backoff_seconds,
        timeout_seconds=settings.info_timeout_seconds,
    )


def _open(url: str, region: str, setting: str, settings: Settings, meter: Meter) -> Bucket:
    def open_s3() -> Bucket:
        # Imported here: boto3 takes its time, and a directory needs none of it.
        from hl_pipeline.sources.s3 import Link, open_s3_bucket

        return open_s3_bucket(
            url,
            region,
            meter,
            attempts=settings.s3_attempts,
            backoff_seconds=settings.s3_backoff_seconds,
            timeout_seconds=settings.s3_timeout_seconds,
            link=Link(settings.s3_megabytes_per_second),
        )

    return open_bucket(url, open_s3, variable(setting))
