"""The Parquet lake: its layout, its files and their metadata. Neither PostgreSQL nor the sources are known here."""
