"""Compares the tables of Dagster's database with the installed Dagster, and upgrades them."""

from __future__ import annotations

from dagster import DagsterInstance


def read_dagster_revisions() -> tuple[str, str]:
    """Return the revision of Dagster's tables and the one that the installed Dagster needs. Creates the tables if needed."""
    with DagsterInstance.get() as instance:
        found, wanted = instance.run_storage.alembic_version() or (None, None)
        return str(found), str(wanted)


def upgrade_dagster() -> None:
    """Upgrade Dagster's tables, like `dagster instance migrate`."""
    with DagsterInstance.get() as instance:
        instance.upgrade()
