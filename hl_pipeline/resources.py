"""What the assets work with, as Dagster resources: the settings, the database, and a place for what the stages return."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from dagster import ResourceParam

from hl_pipeline.domain.checks import StageResult
from hl_pipeline.settings import Settings

if TYPE_CHECKING:
    import psycopg

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Warehouse:
    """The PostgreSQL database of the data. Not a ConfigurableResource: the UI would show its URL."""

    settings: Settings

    @contextmanager
    def connect(self, application: str) -> Generator[psycopg.Connection]:
        """A connection to the migrated database. Raises NoDatabaseError or SchemaError."""
        from hl_pipeline.warehouse.connect import connect, find_database_url

        url = find_database_url(self.settings)
        _ensure_schema_once(url)
        with connect(url, application) as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class StageResults:
    """What the stages returned in the runs of this process, by asset. `hl ingest` reads it; a launched run leaves it unread."""

    by_asset: dict[str, StageResult] = field(default_factory=dict[str, StageResult])

    def of(self, asset: str, kind: type[_Result]) -> _Result:
        """What the stage of an asset returned. Raises KeyError when it has not run."""
        result = self.by_asset[asset]
        assert isinstance(result, kind)
        return result


SettingsParam = ResourceParam[Settings]
WarehouseParam = ResourceParam[Warehouse]
ResultsParam = ResourceParam[StageResults]


@cache
def _ensure_schema_once(url: str) -> None:
    """Each asset of a run asks for a connection; that nothing is to be migrated takes 50 ms to find out."""
    from hl_pipeline.warehouse.migrate import ensure_schema

    ensure_schema(url)
