"""The settings of each bucket."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from hl_pipeline.domain.datasets import BucketName
from hl_pipeline.settings import NONE, Settings


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """The settings of a bucket: its URL, which can be `none` for an optional bucket (`is_set` is then false); USD per GB; how
    long after the end of its hour or day an object is due; whether requests have the requester-pays header.
    """

    url: str
    region: str
    price_per_gb: Decimal
    publish_lag: timedelta
    requester_pays: bool
    is_set: bool = True


def settings_of(bucket: BucketName, settings: Settings) -> BucketSettings:
    """Return the settings of a bucket."""
    if bucket == "node_data":
        lag = timedelta(hours=settings.publish_lag_hours)
        pays = settings.node_data_requester_pays
        return BucketSettings(settings.node_data_url, settings.node_data_region, settings.node_data_price_per_gb, lag, pays)
    lag = timedelta(hours=settings.twap_publish_lag_hours)
    url, pays = settings.twap_data_url, settings.twap_data_requester_pays
    return BucketSettings(url, settings.twap_data_region, settings.twap_data_price_per_gb, lag, pays, is_set=url != NONE)
