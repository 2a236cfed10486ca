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
        from hl_pipeline.warehouse.connect import NoDatabaseError, connect, find_database_url

        try:
            # Frozen, so it has a hash.
            connection = connect(_find_migrated(self.settings), application)  # pyright: ignore[reportArgumentType]
        except NoDatabaseError:
            # Where the embedded server has ended meanwhile, this says what to do.
            find_database_url(self.settings)
            raise
        with connection:
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
def _find_migrated(settings: Settings) -> str:
    """The URL of the database, whose schema is as this version has it. Once: each asset of a run asks for a connection."""
    from hl_pipeline.warehouse.connect import find_database_url
    from hl_pipeline.warehouse.migrate import ensure_schema

    url = find_database_url(settings)
    ensure_schema(url)
    return url
