-- The days from first to last as runs alike in state and note. Only days that have a row are walked; what is between is a gap.
WITH days AS (
    SELECT date, explanation,
           CASE state WHEN 'unprovable' THEN 'unprovable' WHEN 'no source' THEN 'absent' ELSE 'partial' END AS state,
           CASE state WHEN 'no source' THEN 'no source has it' END AS note
    FROM hl.twap_days WHERE date BETWEEN %(first)s AND %(last)s
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
