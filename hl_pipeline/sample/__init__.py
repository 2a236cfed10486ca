"""The generator of `hl demo`: invented objects of the buckets, and the true values. Imports nothing else of hl_pipeline."""
