-- The days of a range whose fills are in the lake alone: the files of the hours, and what the ledger knows of them.
SELECT date, rows,
       (SELECT array_agg(hour::integer ORDER BY hour) FROM hl.fills_hours h WHERE h.date = d.date AND h.rows > 0) AS hours,
       (SELECT array_agg(h.rows ORDER BY hour) FROM hl.fills_hours h WHERE h.date = d.date AND h.rows > 0) AS rows_of_hours,
       (SELECT array_agg(etag || ' ' || parser) FROM hl.fills_day_objects o WHERE o.date = d.date) AS versions
FROM hl.fills_days d
WHERE thinned_at IS NOT NULL AND rows > 0 AND date BETWEEN %(first)s AND %(last)s
ORDER BY date
