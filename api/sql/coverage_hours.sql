-- hl.coverage by day, dataset and hour.
SELECT source, object_date, object_hour, state, found, expected, is_hole, note, why, object_key, etag, rows, bad_lines,
       first_block, last_block, missing_blocks,
       (SELECT coalesce(jsonb_agg(jsonb_build_array(lower(one), upper(one) - 1) ORDER BY one), '[]')
        FROM unnest(missing_ranges) one) AS missing_ranges,
       fetched_at, judged_at
FROM hl.coverage
WHERE object_date BETWEEN %(start)s AND %(end)s
  AND (%(dataset)s::text IS NULL OR source = %(dataset)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(is_hole)s::boolean IS NULL OR is_hole = %(is_hole)s)
  AND (object_date, source, coalesce(object_hour, -1)) > (%(start)s::date, %(after_source)s::text, %(after_hour)s::int)
ORDER BY object_date, source, coalesce(object_hour, -1)
LIMIT %(limit)s
