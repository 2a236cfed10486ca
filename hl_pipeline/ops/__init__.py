"""Running the whole: the installation, its services, launched runs and backfills."""
