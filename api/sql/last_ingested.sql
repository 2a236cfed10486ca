-- The object that was last loaded or, if none was loaded, last fetched.
SELECT object_key, coalesce(loaded_at, fetched_at) AS at,
       extract(epoch FROM now() - coalesce(loaded_at, fetched_at))::double precision AS age_seconds
FROM hl.s3_ingest_log WHERE coalesce(loaded_at, fetched_at) IS NOT NULL
ORDER BY loaded_at DESC NULLS LAST, fetched_at DESC NULLS LAST LIMIT 1
