"""The Dagster resources of the assets: the settings, the database, and a place for the results of the stages."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from dagster import InitResourceContext, ResourceDefinition, ResourceParam

from hl_pipeline.domain.checks import StageResult
from hl_pipeline.settings import Settings
from hl_pipeline.tracing import trace_run

if TYPE_CHECKING:
    import psycopg

_Result = TypeVar("_Result")
_PARTITION_TAG = "dagster/partition"


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The PostgreSQL database of the data. Not a ConfigurableResource: the UI would show its URL."""

    settings: Settings

    @contextmanager
    def connect(self, application: str) -> Generator[psycopg.Connection]:
        """Open a connection to the migrated database. Raises NoDatabaseError or SchemaError."""
        from hl_pipeline.warehouse.connect import NoDatabaseError, connect, find_database_url

        try:
            # Settings are frozen and therefore hashable.
            connection = connect(_find_migrated(self.settings), application)  # pyright: ignore[reportArgumentType]
        except NoDatabaseError:
            # If the embedded server has stopped meanwhile, this error says what to do.
            find_database_url(self.settings)
            raise
        with connection:
            yield connection


@dataclass(frozen=True, slots=True)
class StageResults:
    """The results of the stages that ran in this process, by asset. `hl ingest` reads them; launched runs do not."""

    by_asset: dict[str, StageResult] = field(default_factory=dict[str, StageResult])

    def of(self, asset: str, kind: type[_Result]) -> _Result:
        """Return the result of an asset's stage. Raises KeyError if it has not run."""
        result = self.by_asset[asset]
        assert isinstance(result, kind)
        return result


def last_for_a_run(results: StageResults) -> ResourceDefinition:
    """Return the resource of `results`. Every asset needs it, so it lasts as long as a run, and is where its trace begins."""

    def of_run(context: InitResourceContext) -> Generator[StageResults]:
        run = context.run
        if run is None:
            yield results
            return
        assets = sorted(key.to_user_string() for key in run.asset_selection or ())
        partition = {"partition": run.tags[_PARTITION_TAG]} if _PARTITION_TAG in run.tags else {}
        with trace_run(run_id=run.run_id, job=run.job_name, assets=",".join(assets) or "all", **partition):
            yield results

    return ResourceDefinition(of_run)


SettingsParam = ResourceParam[Settings]
WarehouseParam = ResourceParam[Warehouse]
ResultsParam = ResourceParam[StageResults]


@cache
def _find_migrated(settings: Settings) -> str:
    """Return the URL of the database after checking its schema. Cached, because each asset of a run connects."""
    from hl_pipeline.warehouse.connect import find_database_url
    from hl_pipeline.warehouse.migrate import ensure_schema

    url = find_database_url(settings)
    ensure_schema(url)
    return url
