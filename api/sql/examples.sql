-- The source of the examples in /openapi.json: the last TWAP that began and ended on one day whose fills are loaded. If there is
-- none: a fill of the last day that has fills.
(SELECT t.twap_id, t.wallet, t.coin, d.date AS day, extract(year FROM d.date)::integer AS year
 FROM hl.twaps t JOIN hl.fills_days d ON d.date = t.begins_at::date AND d.date = t.ended_at::date
 WHERE t.verdict = 'match' AND t.slices > 0 AND d.thinned_at IS NULL
 ORDER BY t.seen_to DESC LIMIT 1)
UNION ALL
(SELECT NULL, f.wallet, f.coin, day.date, extract(year FROM day.date)::integer
 FROM (SELECT max(date) AS date FROM hl.fills_days WHERE rows > 0 AND thinned_at IS NULL) day
 JOIN hl.fills f ON f.time >= day.date::timestamp AT TIME ZONE 'UTC' AND f.time < (day.date + 1)::timestamp AT TIME ZONE 'UTC'
 LIMIT 1)
LIMIT 1
