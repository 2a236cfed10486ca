-- The TWAPs of a wallet that began in the range, all together (coin NULL) and by coin, most TWAPs first. A TWAP that has not begun
-- counts when it was placed, or first seen.
WITH chosen AS (
    SELECT * FROM hl.twaps
    WHERE wallet = %(wallet)s
      AND coalesce(begins_at, started_at, seen_from) >= %(start)s::date::timestamp AT TIME ZONE 'UTC'
      AND coalesce(begins_at, started_at, seen_from) < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC'
), by_token AS (
    SELECT coin, f.key AS token, sum(f.value::numeric) AS amount
    FROM chosen CROSS JOIN LATERAL json_each_text(fees) f GROUP BY GROUPING SETS ((coin, f.key), (f.key))
), paid AS (
    SELECT coin, json_object_agg(token, trim_scale(amount)::text ORDER BY token COLLATE "C") AS fees FROM by_token GROUP BY coin
), added AS (
    SELECT coin, count(*) AS twaps, count(*) FILTER (WHERE begins_at IS NULL) AS not_begun,
           count(*) FILTER (WHERE verdict = 'running') AS running, coalesce(sum(fills), 0)::bigint AS fills,
           coalesce(sum(slices), 0)::bigint AS slices, trim_scale(coalesce(sum(notional_observed), 0)) AS notional,
           CASE WHEN count(closed_pnl) = count(*) THEN trim_scale(coalesce(sum(closed_pnl), 0)) END AS closed_pnl,
           min(begins_at) AS first_begins_at, max(begins_at) AS last_begins_at, count(fees) = count(*) AS fees_are_known
    FROM chosen GROUP BY GROUPING SETS ((coin), ())
)
SELECT a.coin, twaps, not_begun, running, fills, slices, notional, closed_pnl, first_begins_at, last_begins_at,
       CASE WHEN fees_are_known THEN coalesce(fees, '{}') END AS fees
FROM added a LEFT JOIN paid p ON p.coin IS NOT DISTINCT FROM a.coin
ORDER BY a.coin IS NOT NULL, twaps DESC, a.coin
