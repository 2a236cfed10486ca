"""The buckets with the meter that pays for their requests, and what they ask."""

from __future__ import annotations

from hl_pipeline.domain.datasets import BUCKETS, DATASETS, BucketName
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import Bucket
from hl_pipeline.sources.open import open_named_bucket
from hl_pipeline.warehouse.spending import Prices, Spending, find_prices


def open_paid_bucket(name: BucketName, settings: Settings, run_id: str | None = None) -> tuple[Bucket | None, Spending]:
    """A bucket (None: it is not set), and what its requests cost from now on. Raises BucketError when it cannot be opened."""
    spending = Spending(settings, settings_of(name, settings).price_per_gb, run_id)
    return open_named_bucket(name, settings, spending), spending


def open_paid_buckets(settings: Settings) -> dict[BucketName, tuple[Bucket | None, Spending]]:
    """All buckets, as `open_paid_bucket`."""
    return {name: open_paid_bucket(name, settings) for name in BUCKETS}


def prices_of_bucket(name: BucketName, settings: Settings) -> Prices:
    """What a bucket asks; a directory asks nothing."""
    own = settings_of(name, settings)
    return find_prices(own.url, own.price_per_gb, settings)


def prices_of_datasets(settings: Settings) -> dict[str, Prices]:
    """What the bucket of each dataset asks, by the dataset's name."""
    return {dataset.name: prices_of_bucket(dataset.bucket, settings) for dataset in DATASETS}
