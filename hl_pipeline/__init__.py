"""Hyperliquid's trading history, complete and exact, in a Parquet lake and PostgreSQL, run by Dagster."""
