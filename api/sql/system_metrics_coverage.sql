-- hl.coverage: hours by state, holes by cause, and the newest hour of which nothing is missing.
WITH hours AS (
    SELECT source, state, found, is_hole, count(*) AS count,
           max(object_date + (coalesce(object_hour, 23) + 1) * interval '1 hour') AS newest
    FROM hl.coverage GROUP BY source, state, found, is_hole
)
SELECT 'hl_hour_states', ARRAY[source, state], sum(count)::double precision FROM hours GROUP BY source, state
UNION ALL
SELECT 'hl_holes', ARRAY[source, cause],
       coalesce(sum(count) FILTER (WHERE is_hole AND found = cause AND state <> 'acknowledged'), 0)::double precision
FROM hours, unnest(ARRAY['missing', 'failed', 'blocks missing']) AS cause GROUP BY source, cause
UNION ALL
SELECT 'hl_acknowledged_holes', ARRAY[source], coalesce(sum(count) FILTER (WHERE state = 'acknowledged'), 0)::double precision
FROM hours GROUP BY source
UNION ALL
SELECT 'hl_newest_whole_hour_lag_seconds', ARRAY[source],
       extract(epoch FROM now() - max(newest) AT TIME ZONE 'UTC')::double precision
FROM hours WHERE found IN ('present', 'unprovable') GROUP BY source
