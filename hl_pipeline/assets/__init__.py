"""Dagster's assets and their checks: each calls a stage and reports what it returned. The work itself stands in stages."""
