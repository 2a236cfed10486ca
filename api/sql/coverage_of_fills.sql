-- The same of the days of hl.fills, or of what is made of them. what: fills, candles, daily_stats or user_stats.
WITH days AS (
    SELECT date, explanation, CASE WHEN missing IS NULL THEN judged ELSE 'absent' END AS state, missing AS note
    FROM (SELECT date, explanation,
                 -- Days that a first version loaded were not judged.
                 CASE WHEN state = 'whole' THEN 'whole' WHEN coalesce(state, 'unprovable') = 'unprovable' THEN 'unprovable'
                      ELSE 'partial' END AS judged,
                 CASE WHEN state = 'no source' THEN 'no source has it'
                      WHEN %(what)s::text = 'fills' AND thinned_at IS NOT NULL THEN 'in the lake alone: hl rebuild brings it back'
                      WHEN %(what)s::text = 'candles' AND candles_at IS NULL
                        OR %(what)s::text = 'daily_stats' AND daily_stats_at IS NULL
                        OR %(what)s::text = 'user_stats' AND user_stats_at IS NULL THEN 'not made since its fills were loaded'
                 END AS missing
          FROM hl.fills_days WHERE date BETWEEN %(first)s AND %(last)s) judged_days
), runs AS (
    SELECT min(date) AS first, max(date) AS last, state,
           CASE WHEN state = 'partial' AND count(*) = 1 THEN min(explanation) ELSE note END AS note
    FROM (SELECT *, date - row_number() OVER (PARTITION BY state, note ORDER BY date)::integer AS island FROM days) numbered
    GROUP BY state, note, island
), gaps AS (
    SELECT before + 1 AS first, first - 1 AS last, 'absent' AS state, 'not loaded' AS note
    FROM (SELECT first, coalesce(lag(last) OVER (ORDER BY first), %(first)s::date - 1) AS before
          FROM (SELECT first, last FROM runs UNION ALL SELECT %(last)s::date + 1, NULL) bounds) neighbours
    WHERE before + 1 < first
)
SELECT json_agg(json_strip_nulls(json_build_object('from', first, 'to', last, 'state', state, 'note', note)) ORDER BY first)
FROM (SELECT * FROM runs UNION ALL SELECT * FROM gaps) all_of_them
