"""The tables of Dagster's own database: whether they are those of the installed Dagster, and how they become so."""

from __future__ import annotations

from dagster import DagsterInstance


def read_dagster_revisions() -> tuple[str, str]:
    """The revision that Dagster's tables have, and the one that the installed Dagster works with. Makes the tables if need be."""
    with DagsterInstance.get() as instance:
        found, wanted = instance.run_storage.alembic_version() or (None, None)
        return str(found), str(wanted)


def upgrade_dagster() -> None:
    """What `dagster instance migrate` does."""
    with DagsterInstance.get() as instance:
        instance.upgrade()
