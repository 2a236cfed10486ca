"""What the assets work with, as Dagster resources: the bucket, the lake, the database. Settings in, plain objects out."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from dagster import ConfigurableResource

from hl_pipeline.lake import Lake, open_lake
from hl_pipeline.settings import NONE, Settings, variable
from hl_pipeline.sources.buckets import Bucket, open_bucket
from hl_pipeline.warehouse.connect import connect, find_database_url
from hl_pipeline.warehouse.migrate import migrate

if TYPE_CHECKING:
    from botocore.client import BaseClient


class NodeData(ConfigurableResource):
    """The bucket with the node's fills, or a directory of the same layout."""

    url: str
    region: str

    def open(self) -> Bucket:
        return open_bucket(self.url, lambda: s3_client(self.region), variable("node_data_url"))


class TwapData(ConfigurableResource):
    """The bucket with the statuses of TWAPs, or a directory of the same layout, or `none`."""

    url: str
    region: str

    def open(self) -> Bucket | None:
        if self.url == NONE:
            return None
        return open_bucket(self.url, lambda: s3_client(self.region), variable("twap_data_url"))


class LakeStorage(ConfigurableResource):
    """The Parquet lake."""

    url: str

    def open(self) -> Lake:
        return open_lake(self.url)


class Warehouse(ConfigurableResource):
    """The PostgreSQL database of the data; where it is follows from the settings of the process that runs."""

    @contextmanager
    def connect(self, application: str) -> Generator[psycopg.Connection]:
        """A connection to the migrated database. Raises NoDatabaseError."""
        url = find_database_url(Settings())
        migrate(url)
        with connect(url, application) as connection:
            yield connection


def s3_client(region: str) -> BaseClient:
    """An S3 client by dagster-aws: credentials, profiles, roles and endpoint as AWS's own variables say, retries with backoff."""
    # Imported here: dagster_aws takes two seconds, and a directory needs none of it.
    from dagster_aws.s3 import S3Resource

    return S3Resource(region_name=region, max_attempts=8).get_client()
