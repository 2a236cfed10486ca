"""A module per path: what each request is answered with. Queries stand in api/sql, what answers look like in api/models."""
