"""Request handlers, one module per group of paths. Queries are in api/sql, response models in api/models."""
