"""The Parquet lake: its layout, its files and their metadata. It does not use PostgreSQL or the sources."""
