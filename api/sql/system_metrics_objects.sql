-- The ledger of source objects by dataset. An object of no hour covers its whole day.
WITH objects AS (
    SELECT source, count(fetched_at) AS fetched, count(loaded_at) AS loaded, count(error) AS failed,
           sum(size_bytes) AS size_bytes, coalesce(sum(rows), 0) AS rows, coalesce(sum(bad_lines), 0) AS bad_lines,
           coalesce(sum(rows) FILTER (WHERE fetched_at > now() - interval '24 hours'), 0) AS last_rows,
           coalesce(sum(bad_lines) FILTER (WHERE fetched_at > now() - interval '24 hours'), 0) AS last_bad_lines,
           max(object_date + (coalesce(object_hour, 23) + 1) * interval '1 hour') FILTER (WHERE loaded_at IS NOT NULL) AS newest
    FROM hl.s3_ingest_log GROUP BY source
)
SELECT metric, ARRAY[source], value::double precision
FROM objects, LATERAL (VALUES
    ('hl_objects_fetched', fetched::numeric),
    ('hl_objects_loaded', loaded),
    ('hl_objects_failed', failed),
    ('hl_objects_size_bytes', size_bytes),
    ('hl_objects_rows', rows),
    ('hl_quarantined_lines', bad_lines),
    ('hl_last_day_rows', last_rows),
    ('hl_last_day_quarantined_lines', last_bad_lines),
    -- The days of the info API's wallets are all of the past.
    ('hl_newest_loaded_hour_lag_seconds',
     CASE WHEN source <> 'api_fills' THEN extract(epoch FROM now() - newest AT TIME ZONE 'UTC') END)
) AS measured(metric, value)
WHERE value IS NOT NULL
