"""Clients of the data sources: buckets, S3, the info API. They do not use the lake or the database."""
