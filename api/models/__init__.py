"""What answers look like, for /docs and /openapi.json: a module per group of paths."""
