-- The days from first to last as runs with the same state and note, and with their holes from hl.coverage. Only days that have
-- a row are read; days between them form gaps. what: twaps, fills, candles, daily_stats, user_stats or
-- builder_stats. lake_fault: why days that are in the lake alone cannot be read, or NULL if they can.
WITH loaded AS (
    SELECT date, explanation, state, NULL::timestamptz AS thinned_at, NULL::timestamptz AS made_at
    FROM hl.twap_days WHERE %(what)s::text = 'twaps'
    UNION ALL
    SELECT date, explanation, state, thinned_at,
           CASE %(what)s::text WHEN 'candles' THEN candles_at WHEN 'daily_stats' THEN daily_stats_at
                               WHEN 'user_stats' THEN user_stats_at
                               WHEN 'builder_stats' THEN builder_stats_at END
    FROM hl.fills_days WHERE %(what)s::text <> 'twaps'
), days AS (
    SELECT date, explanation, CASE WHEN missing IS NULL THEN judged ELSE 'absent' END AS state, missing AS note,
           CASE WHEN missing IS NULL AND %(what)s::text = 'fills' AND thinned_at IS NOT NULL THEN 'lake' END AS tier
    FROM (SELECT date, explanation, thinned_at,
                 -- Days loaded by the first version were not judged.
                 CASE WHEN state = 'whole' THEN 'whole' WHEN coalesce(state, 'unprovable') = 'unprovable' THEN 'unprovable'
                      ELSE 'partial' END AS judged,
                 CASE WHEN state = 'no source' THEN 'no source has it'
                      WHEN %(what)s::text = 'fills' AND thinned_at IS NOT NULL THEN %(lake_fault)s::text
                      WHEN %(what)s::text NOT IN ('twaps', 'fills') AND made_at IS NULL
                      THEN 'not made since its fills were loaded' END AS missing
          FROM loaded WHERE date BETWEEN %(first)s AND %(last)s) judged_days
), runs AS (
    SELECT min(date) AS first, max(date) AS last, state, tier,
           CASE WHEN state = 'partial' AND count(*) = 1 THEN min(explanation) ELSE note END AS note
    FROM (SELECT *, date - row_number() OVER (PARTITION BY state, note, tier ORDER BY date)::integer AS island FROM days) numbered
    GROUP BY state, note, tier, island
), gaps AS (
    SELECT before + 1 AS first, first - 1 AS last, 'absent' AS state, NULL AS tier, 'not loaded' AS note
    FROM (SELECT first, coalesce(lag(last) OVER (ORDER BY first), %(first)s::date - 1) AS before
          FROM (SELECT first, last FROM runs UNION ALL SELECT %(last)s::date + 1, NULL) bounds) neighbours
    WHERE before + 1 < first
)
SELECT json_agg(json_strip_nulls(json_build_object(
           'from', first, 'to', last, 'state', state, 'tier', tier, 'note', note, 'holes', nullif(holes, 0),
           'acknowledged', nullif(acknowledged, 0), 'hours', array_to_json(hours[:24]))) ORDER BY first)
FROM (SELECT * FROM runs UNION ALL SELECT * FROM gaps) all_of_them, LATERAL (
    SELECT count(*) FILTER (WHERE c.state <> 'acknowledged') AS holes,
           count(*) FILTER (WHERE c.state = 'acknowledged') AS acknowledged,
           array_agg(json_build_object('source', source, 'object_date', object_date, 'object_hour', object_hour,
                                       'state', c.state)
                     ORDER BY c.state = 'acknowledged', object_date, object_hour NULLS FIRST, source) AS hours
    FROM hl.coverage c
    WHERE is_hole AND (source = 'twap_statuses') = (%(what)s::text = 'twaps') AND object_date BETWEEN first AND last + 1
      -- The last fills of a day are in the first object of the next day.
      AND (object_date <= last OR %(what)s::text <> 'twaps' AND object_hour = 0)) lacking
