"""Response models for /docs and /openapi.json, one module per group of paths."""
