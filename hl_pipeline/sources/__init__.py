"""Where data comes from: buckets, S3, the info API. Neither the lake nor the database is known here."""
