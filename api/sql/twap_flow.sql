-- Follows twap_flow_running.sql: what the TWAPs did, and what their straight schedules still bring. since: twap_flow_since.sql.
, price AS (
    SELECT (SELECT c.close FROM hl.candles c
            WHERE c.coin = %(coin)s AND c.time <= %(at)s::timestamptz - interval '1 minute'
              AND c.time > %(at)s::timestamptz - interval '61 minutes'
            ORDER BY c.time DESC LIMIT 1) AS px
), done AS (
    SELECT f.twap_id, sum(f.sz) AS size, sum(f.px * f.sz) AS notional
    FROM hl.fills f
    -- As an array, since a join may read all slices of the day.
    WHERE f.twap_id = ANY (ARRAY(SELECT twap_id FROM running WHERE last_slice_at > %(at)s))
      AND f.time >= %(since)s::timestamptz AND f.time <= %(at)s
    GROUP BY f.twap_id
), parts AS (
    SELECT r.side, r.size_requested, r.planned_end,
           CASE WHEN r.last_slice_at IS NULL OR r.last_slice_at <= %(at)s THEN r.size_observed
                WHEN r.first_slice_at > %(at)s THEN 0 WHEN is_loaded THEN coalesce(d.size, 0) END AS executed_size,
           CASE WHEN r.last_slice_at IS NULL OR r.last_slice_at <= %(at)s THEN r.notional_observed
                WHEN r.first_slice_at > %(at)s THEN 0 WHEN is_loaded THEN coalesce(d.notional, 0) END AS executed_notional,
           extract(epoch FROM r.planned_end - r.begins_at) AS whole_seconds,
           extract(epoch FROM r.planned_end - %(at)s::timestamptz) AS seconds_left
    FROM running r LEFT JOIN done d USING (twap_id) CROSS JOIN LATERAL (
        -- Whether every day of its slices until then is in hl.fills.
        SELECT bool_and(l.date IS NOT NULL AND l.thinned_at IS NULL) IS TRUE AS is_loaded
        FROM hl.twap_slice_days s LEFT JOIN hl.fills_days l USING (date)
        WHERE s.twap_id = r.twap_id AND s.date <= (%(at)s::timestamptz AT TIME ZONE 'UTC')::date
    ) days
), amounts AS (
    SELECT 'executed' AS what, side, executed_size AS size, executed_notional AS notional FROM parts
    UNION ALL
    SELECT h.what, side, size, CASE WHEN size = 0 THEN 0 ELSE size * (SELECT px FROM price) END
    FROM parts CROSS JOIN (VALUES ('next_1h', 3600), ('next_24h', 86400), ('until_end', NULL)) h (what, seconds) CROSS JOIN LATERAL (
        SELECT CASE WHEN seconds_left <= 0 THEN 0
                    ELSE hl.ratio(size_requested * least(seconds_left, h.seconds), whole_seconds, 10) END AS size
    ) due
)
SELECT w.what, trim_scale((SELECT px FROM price)) AS px, (SELECT count(*) FROM running WHERE side = 'B') AS buys,
       (SELECT count(*) FROM running WHERE side = 'A') AS sells,
       count(a.side) - count(a.size) AS unknown,
       trim_scale(coalesce(sum(a.size) FILTER (WHERE a.side = 'B'), 0)) AS known_buy_size,
       trim_scale(coalesce(sum(a.size) FILTER (WHERE a.side = 'A'), 0)) AS known_sell_size,
       CASE WHEN count(a.side) = count(a.size)
            THEN trim_scale(coalesce(sum(CASE a.side WHEN 'B' THEN a.size ELSE -a.size END), 0)) END AS net_size,
       CASE WHEN count(a.side) = count(a.size) THEN trim_scale(coalesce(sum(a.size), 0)) END AS gross_size,
       CASE WHEN count(a.side) = count(a.notional)
            THEN trim_scale(coalesce(sum(CASE a.side WHEN 'B' THEN a.notional ELSE -a.notional END), 0)) END AS net_notional,
       CASE WHEN count(a.side) = count(a.notional) THEN trim_scale(coalesce(sum(a.notional), 0)) END AS gross_notional
FROM (VALUES ('executed', 1), ('next_1h', 2), ('next_24h', 3), ('until_end', 4)) w (what, place) LEFT JOIN amounts a USING (what)
GROUP BY w.what, w.place ORDER BY w.place
