"""Opens the buckets with a meter for their requests, and knows their prices."""

from __future__ import annotations

from hl_pipeline.domain.datasets import BUCKETS, DATASETS, BucketName
from hl_pipeline.settings import Settings
from hl_pipeline.sources.bucket_settings import settings_of
from hl_pipeline.sources.buckets import Bucket
from hl_pipeline.sources.open import open_named_bucket
from hl_pipeline.warehouse.spending import Prices, Spending, find_prices


def open_paid_bucket(name: BucketName, settings: Settings, run_id: str | None = None) -> tuple[Bucket | None, Spending]:
    """Open a bucket (None if not configured) with a meter of its spending. Raises BucketError if it cannot be opened."""
    spending = Spending(settings, settings_of(name, settings).price_per_gb, run_id)
    return open_named_bucket(name, settings, spending), spending


def open_paid_buckets(settings: Settings) -> dict[BucketName, tuple[Bucket | None, Spending]]:
    """Open all buckets with `open_paid_bucket`."""
    return {name: open_paid_bucket(name, settings) for name in BUCKETS}


def prices_of_bucket(name: BucketName, settings: Settings) -> Prices:
    """Return the prices of a bucket; a directory is free."""
    own = settings_of(name, settings)
    return find_prices(own.url, own.price_per_gb, settings)


def prices_of_datasets(settings: Settings) -> dict[str, Prices]:
    """Return the prices of each dataset's bucket, by dataset name."""
    return {dataset.name: prices_of_bucket(dataset.bucket, settings) for dataset in DATASETS}
