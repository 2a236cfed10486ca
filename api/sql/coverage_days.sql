-- Each day of the range, once for fills and once for statuses: its verdict when it was loaded, and the holes it has now.
WITH loaded AS (
    SELECT date, 'fills' AS what, coalesce(state, 'not judged') AS state, explanation, to_jsonb(edges) AS edges, rows,
           duplicates, loaded_at, thinned_at
    FROM hl.fills_days
    UNION ALL
    SELECT date, 'twap_statuses', state, explanation, '[]', rows, duplicates, loaded_at, NULL FROM hl.twap_days
), asked AS (
    SELECT day::date AS date, what
    FROM (VALUES ('fills'), ('twap_statuses')) tables (what),
         -- Without a filter on the state, a page has at most as many days as its limit.
         generate_series(%(start)s::date,
                         least(%(end)s, CASE WHEN %(state)s::text IS NULL THEN %(start)s::date + %(limit)s::int END),
                         interval '1 day') day
    WHERE %(what)s::text IS NULL OR what = %(what)s
), days AS (
    SELECT date, what, explanation, edges, rows, duplicates, loaded_at, thinned_at, holes, acknowledged,
           coalesce(state, CASE WHEN was_asked THEN 'not loaded' ELSE 'never asked for' END) AS state
    FROM asked LEFT JOIN loaded USING (date, what), LATERAL (
        SELECT count(*) FILTER (WHERE is_hole AND c.state <> 'acknowledged') AS holes,
               count(*) FILTER (WHERE c.state = 'acknowledged') AS acknowledged,
               -- The first and last hours of a day may have been fetched for its neighbours.
               bool_or(object_date = date AND (what = 'twap_statuses' OR object_hour BETWEEN 4 AND 17)) AS was_asked
        FROM hl.coverage c
        WHERE object_date BETWEEN date AND date + 1 AND (object_date = date OR what = 'fills' AND object_hour = 0)
          AND (source = 'twap_statuses') = (what = 'twap_statuses')) hours
)
SELECT date, what, state, explanation, edges, holes, acknowledged, rows, duplicates, loaded_at, thinned_at FROM days
WHERE (date, what) > (%(start)s::date, %(after_what)s::text) AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY date, what LIMIT %(limit)s
