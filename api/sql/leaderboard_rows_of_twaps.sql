-- Follows leaderboard_shown.sql: all sums of the wallets that it shows.
SELECT s.rank, s.name AS wallet, t.twaps, t.coins, t.fills, t.slices, t.notional, t.closed_pnl, t.first_begins_at,
       t.last_begins_at, t.is_complete, coalesce(p.fees, t.no_fees) AS fees
FROM shown s
CROSS JOIN LATERAL (
    SELECT count(*) AS twaps, count(DISTINCT coin) AS coins, sum(fills)::bigint AS fills, sum(slices)::bigint AS slices,
           trim_scale(sum(notional_observed)) AS notional,
           CASE WHEN count(closed_pnl) = count(*) THEN trim_scale(sum(closed_pnl)) END AS closed_pnl,
           min(begins_at) AS first_begins_at, max(begins_at) AS last_begins_at,
           CASE WHEN bool_or(NOT is_complete) THEN false WHEN bool_and(is_complete IS NOT NULL) THEN true END AS is_complete,
           CASE WHEN bool_and(fees IS NOT NULL) THEN '{}'::json END AS no_fees
    -- OFFSET 0: without it, the distinct coins make the planner walk the index of coins.
    FROM (SELECT * FROM hl.twaps w
          WHERE w.wallet = s.name AND begins_at >= %(start)s::date::timestamp AT TIME ZONE 'UTC'
            AND begins_at < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC' AND (%(coin)s::text IS NULL OR w.coin = %(coin)s)
          OFFSET 0) own
) t
LEFT JOIN LATERAL (
    SELECT json_object_agg(token, trim_scale(amount)::text ORDER BY token COLLATE "C") AS fees
    FROM (SELECT f.key AS token, sum(f.value::numeric) AS amount
          FROM hl.twaps w CROSS JOIN LATERAL json_each_text(w.fees) f
          WHERE w.wallet = s.name AND begins_at >= %(start)s::date::timestamp AT TIME ZONE 'UTC'
            AND begins_at < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC' AND (%(coin)s::text IS NULL OR w.coin = %(coin)s)
          GROUP BY 1) by_token
    HAVING t.no_fees IS NOT NULL
) p ON true
ORDER BY s.place
