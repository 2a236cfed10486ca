"""What the assets work with, as Dagster resources: the bucket, the lake, the database. Settings in, plain objects out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import psycopg
from dagster import ConfigurableResource, ResourceParam

from hl_pipeline.lake.store import Lake, open_lake
from hl_pipeline.settings import NONE, Settings, variable
from hl_pipeline.sources.buckets import Bucket, open_bucket
from hl_pipeline.sources.info import InfoApi, open_info_api
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.info_weight import InfoWeight
from hl_pipeline.warehouse.migrate import migrate

if TYPE_CHECKING:
    from hl_pipeline.domain.budgets import Meter


class NodeData(ConfigurableResource):
    """The bucket with the node's fills, or a directory of the same layout."""

    url: str
    region: str

    def open(self, settings: Settings, meter: Meter) -> Bucket:
        """Raises BucketError when it is neither s3:// nor a directory that is there; `meter` is told of each request to S3."""
        return open_bucket(self.url, lambda: _open_s3(self.url, self.region, settings, meter), variable("node_data_url"))


class TwapData(ConfigurableResource):
    """The bucket with the statuses of TWAPs, or a directory of the same layout, or `none`."""

    url: str
    region: str

    def open(self, settings: Settings, meter: Meter) -> Bucket | None:
        """As NodeData.open."""
        if self.url == NONE:
            return None
        return open_bucket(self.url, lambda: _open_s3(self.url, self.region, settings, meter), variable("twap_data_url"))


class Info(ConfigurableResource):
    """Hyperliquid's info API, asked within the weight of HL_EGRESS."""

    url: str

    def open(self, settings: Settings) -> InfoApi:
        return open_info_api(settings.model_copy(update={"info_url": self.url}), InfoWeight(settings))


class LakeStorage(ConfigurableResource):
    """The Parquet lake."""

    url: str

    def open(self) -> Lake:
        return open_lake(self.url)


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The PostgreSQL database of the data. Not a ConfigurableResource: the UI would show its URL."""

    settings: Settings

    @contextmanager
    def connect(self, application: str) -> Generator[psycopg.Connection]:
        """A connection to the migrated database. Raises NoDatabaseError."""
        url = find_database_url(self.settings)
        _migrate_once(url)
        with connect(url, application) as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class StageResults:
    """What the stages returned in the runs of this process, by asset. `hl ingest` reads it; a launched run leaves it unread."""

    by_asset: dict[str, object] = field(default_factory=dict[str, object])


SettingsParam = ResourceParam[Settings]
WarehouseParam = ResourceParam[Warehouse]
ResultsParam = ResourceParam[StageResults]


@cache
def _migrate_once(url: str) -> None:
    """Each asset of a run asks for a connection; that nothing is to be migrated takes 50 ms to find out."""
    migrate(url)


def _open_s3(url: str, region: str, settings: Settings, meter: Meter) -> Bucket:
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
