"""Hyperliquid's trading history, complete and exact, in a Parquet lake and PostgreSQL, run by Dagster."""

import os

# The allocator of polars, jemalloc, reads this when polars is imported. By default it returns free pages after 0.5 s and spreads
# memory over four arenas per core, so each hour of a day takes new pages: a tenth to a quarter of the CPU time of a stage.
os.environ.setdefault("_RJEM_MALLOC_CONF", f"narenas:{os.cpu_count() or 2},dirty_decay_ms:30000")
