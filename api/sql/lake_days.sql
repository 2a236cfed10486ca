-- The days of a range whose fills are in the lake alone: the files of a day at rest, else those of its hours, and what the ledger
-- knows of them. A compacted day is outdated once the day is loaded again.
SELECT d.date, d.rows, l.files,
       (SELECT array_agg(hour::integer ORDER BY hour) FROM hl.fills_hours h WHERE h.date = d.date AND h.rows > 0) AS hours,
       (SELECT array_agg(h.rows ORDER BY hour) FROM hl.fills_hours h WHERE h.date = d.date AND h.rows > 0) AS rows_of_hours,
       (SELECT array_agg(etag || ' ' || parser) FROM hl.fills_day_objects o WHERE o.date = d.date AND l.date IS NULL) AS versions
FROM hl.fills_days d LEFT JOIN hl.lake_days l ON l.table_name = 'fills' AND l.date = d.date AND l.loaded_at = d.loaded_at
WHERE d.thinned_at IS NOT NULL AND d.rows > 0 AND d.date BETWEEN %(first)s AND %(last)s
ORDER BY d.date
