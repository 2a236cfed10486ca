"""Dagster assets and checks. Each calls a stage and reports its result; the stages do the work."""
