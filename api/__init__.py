"""The REST API. It only reads PostgreSQL and imports nothing of hl_pipeline."""
