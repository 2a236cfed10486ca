"""Dagster's own storage, in PostgreSQL beside the data: dagster.yaml names this class, so that one file serves the embedded
server and any other.
"""

from __future__ import annotations

from typing import Any

from click import ClickException
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from hl_pipeline.settings import Settings
from hl_pipeline.warehouse.connect import NoDatabaseError, ensure_database, find_dagster_url


class PipelineStorage(DagsterPostgresStorage):
    """DagsterPostgresStorage whose URL follows from the settings.

    Raises ClickException, which says what to do: Dagster's programs show it as one line, where others are a page of traceback.
    """

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride] - as Dagster's own storages do
        cls,
        inst_data: ConfigurableClassData | None,
        config_value: dict[str, Any],  # noqa: ARG003
    ) -> DagsterPostgresStorage:
        try:
            url = find_dagster_url(Settings())
            ensure_database(url)
        except NoDatabaseError as error:
            raise ClickException(str(error)) from error
        _, _, address = url.partition("://")
        # Bare postgresql:// means psycopg 3 to SQLAlchemy 2.1, with which dagster-postgres fails (its NOTIFY with parameters).
        return DagsterPostgresStorage(f"postgresql+psycopg2://{address}", inst_data=inst_data)
