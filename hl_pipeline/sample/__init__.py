"""The generator behind `hl demo`: invented objects of the buckets, and the truth about them. Imports nothing of ours."""
