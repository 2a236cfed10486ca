-- Like leaderboard_of_wallets.sql, for the TWAPs that began in the range.
WITH valued AS (
    SELECT wallet AS name, CASE WHEN count(value) = count(*) THEN sum(value) END AS value
    FROM (SELECT wallet,
                 CASE %(sort)s::text WHEN 'twaps' THEN 1::numeric WHEN 'notional' THEN notional_observed
                                     WHEN 'slices' THEN slices::numeric WHEN 'closed_pnl' THEN closed_pnl END AS value
          FROM hl.twaps
          WHERE begins_at >= %(start)s::date::timestamp AT TIME ZONE 'UTC'
            AND begins_at < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC'
            AND (%(coin)s::text IS NULL OR coin = %(coin)s)) begun
    GROUP BY wallet
)
