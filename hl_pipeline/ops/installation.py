"""An installation that is up: settings in the environment, the embedded PostgreSQL running if it is ours, the schema migrated.

`hl` works within one; what it starts (webserver, daemon, runs) finds everything in the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hl_pipeline.settings import Settings, as_environment
from hl_pipeline.warehouse.connect import ensure_database, find_dagster_url, find_database_url
from hl_pipeline.warehouse.embedded import hold
from hl_pipeline.warehouse.migrate import ensure_schema


@contextmanager
def hold_installation(settings: Settings, *, migrated: bool = True) -> Generator[str]:
    """The database's URL, while everything that the assets need is there; this process's environment has the settings. The schema
    is left as it is unless it is to be `migrated`.

    Raises NoDatabaseError, EmbeddedServerError or SchemaError.
    """
    with hold_server(settings) as url:
        ensure_database(url)
        if migrated:
            ensure_schema(url)
        ensure_database(find_dagster_url(settings))
        os.environ.update(as_environment(settings))
        os.environ["DAGSTER_HOME"] = str(_dagster_home(settings))
        yield url


@contextmanager
def hold_server(settings: Settings) -> Generator[str]:
    """The database's URL, while its server runs if it is the embedded one. Nothing is made or migrated in it.

    Raises NoDatabaseError or EmbeddedServerError.
    """
    with ExitStack() as stack:
        if settings.database_url is None:
            stack.enter_context(hold(settings.home))
        yield find_database_url(settings)


def dagster_file(name: str) -> Path:
    """workspace.yaml or dagster.yaml: beside this module in a wheel, at the top of the repository otherwise."""
    shipped = Path(__file__).with_name(name)
    return shipped if shipped.exists() else Path(__file__).parents[2] / name


def _dagster_home(settings: Settings) -> Path:
    """Dagster's directory in HL_HOME, with the project's dagster.yaml."""
    home = settings.home.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(dagster_file("dagster.yaml"), home / "dagster.yaml")
    return home
