"""The REST API: reads PostgreSQL, knows nothing of hl_pipeline."""
