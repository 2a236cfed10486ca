-- Follows leaderboard_shown.sql: all sums of the wallets that it shows.
SELECT s.rank, s.name AS wallet, t.days, t.fills, t.maker_notional, t.taker_notional, t.notional, t.closed_pnl, t.fees_in_quote,
       t.net_pnl, t.first_fill, t.last_fill, t.is_complete, coalesce(p.fees, t.no_fees) AS fees
FROM shown s
CROSS JOIN LATERAL (
    SELECT count(*) AS days, sum(fills)::bigint AS fills,
           CASE WHEN count(maker_notional) = count(*) THEN trim_scale(sum(maker_notional)) END AS maker_notional,
           CASE WHEN count(taker_notional) = count(*) THEN trim_scale(sum(taker_notional)) END AS taker_notional,
           CASE WHEN count(maker_notional + taker_notional) = count(*)
                THEN trim_scale(sum(maker_notional + taker_notional)) END AS notional,
           CASE WHEN count(closed_pnl) = count(*) THEN trim_scale(sum(closed_pnl)) END AS closed_pnl,
           CASE WHEN count(fees_in_quote) = count(*) THEN trim_scale(sum(fees_in_quote)) END AS fees_in_quote,
           CASE WHEN count(closed_pnl - fees_in_quote) = count(*)
                THEN trim_scale(sum(closed_pnl - fees_in_quote)) END AS net_pnl,
           min(first_fill) AS first_fill, max(last_fill) AS last_fill,
           CASE WHEN bool_or(NOT is_complete) THEN false WHEN bool_and(is_complete IS NOT NULL) THEN true END AS is_complete,
           CASE WHEN bool_and(fees IS NOT NULL) THEN '{}'::json END AS no_fees
    FROM hl.user_stats u WHERE u.wallet = s.name AND u.date BETWEEN %(start)s AND %(end)s
) t
LEFT JOIN LATERAL (
    SELECT json_object_agg(token, trim_scale(amount)::text ORDER BY token COLLATE "C") AS fees
    FROM (SELECT f.key AS token, sum(f.value::numeric) AS amount
          FROM hl.user_stats u CROSS JOIN LATERAL json_each_text(u.fees) f
          WHERE u.wallet = s.name AND u.date BETWEEN %(start)s AND %(end)s GROUP BY 1) by_token
    HAVING t.no_fees IS NOT NULL
) p ON true
ORDER BY s.place
