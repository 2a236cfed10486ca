-- The value of each wallet in the range, and how to rank it, for leaderboard_shown.sql. Only the value is summed for every wallet.
-- It is NULL if it is unknown on one of the days.
WITH valued AS (
    SELECT wallet AS name, CASE WHEN count(value) = count(*) THEN sum(value) END AS value
    FROM (SELECT wallet,
                 CASE %(sort)s::text WHEN 'notional' THEN maker_notional + taker_notional WHEN 'maker_notional' THEN maker_notional
                                     WHEN 'taker_notional' THEN taker_notional WHEN 'fills' THEN fills::numeric
                                     WHEN 'closed_pnl' THEN closed_pnl WHEN 'net_pnl' THEN closed_pnl - fees_in_quote
                                     WHEN 'fees_in_quote' THEN fees_in_quote END AS value
          FROM hl.user_stats WHERE date BETWEEN %(start)s AND %(end)s) days
    GROUP BY wallet
)
