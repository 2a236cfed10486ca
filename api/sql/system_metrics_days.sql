-- The days that are loaded, how each was judged, and the newest one.
WITH days AS (
    SELECT 'fills' AS dataset, coalesce(state, 'not judged') AS verdict, date FROM hl.fills_days
    UNION ALL
    SELECT 'twap_statuses', state, date FROM hl.twap_days
), verdicts AS (
    SELECT dataset, verdict FROM unnest(ARRAY['fills', 'twap_statuses']) AS dataset,
        unnest(ARRAY['whole', 'unprovable', 'pending', 'incomplete', 'no source', 'not judged']) AS verdict
    -- Nothing proves a day of statuses whole, and each was judged.
    WHERE dataset = 'fills' OR verdict NOT IN ('whole', 'not judged')
)
SELECT 'hl_day_verdicts', ARRAY[dataset, verdict], count(date)::double precision
FROM verdicts FULL JOIN days USING (dataset, verdict) GROUP BY dataset, verdict
UNION ALL
SELECT 'hl_fills', ARRAY[]::text[], coalesce(sum(rows), 0)::double precision FROM hl.fills_days
UNION ALL
SELECT 'hl_twap_status_events', ARRAY[]::text[], coalesce(sum(rows), 0)::double precision FROM hl.twap_days
UNION ALL
(SELECT 'hl_newest_day_fills', ARRAY[]::text[], rows::double precision FROM hl.fills_days ORDER BY date DESC LIMIT 1)
UNION ALL
SELECT 'hl_reloads_due', ARRAY[]::text[], count(*)::double precision FROM hl.dirty_days
