"""An open installation: settings in the environment, the embedded PostgreSQL running if it is used, the schema migrated.

`hl` works within one. The processes that it starts (webserver, daemon, runs) find everything in the environment.
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
    """Prepare everything that the assets need, put the settings into this process's environment, and yield the database's URL.
    The schema is migrated only if `migrated`.

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
    """Start the embedded server if it is used, and yield the database's URL. Nothing is created or migrated.

    Raises NoDatabaseError or EmbeddedServerError.
    """
    with ExitStack() as stack:
        if settings.database_url is None:
            stack.enter_context(hold(settings.home))
        yield find_database_url(settings)


def dagster_file(name: str) -> Path:
    """Return the path of workspace.yaml or dagster.yaml: next to this module in a wheel, else at the top of the repository."""
    shipped = Path(__file__).with_name(name)
    return shipped if shipped.exists() else Path(__file__).parents[2] / name


def _dagster_home(settings: Settings) -> Path:
    """Create Dagster's directory in HL_HOME with the project's dagster.yaml, and return it."""
    home = settings.home.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(dagster_file("dagster.yaml"), home / "dagster.yaml")
    return home
