"""The work of each asset, as plain functions that return dataclasses. No Dagster."""
