"""Operation: the installation, its services, launched runs and backfills."""
