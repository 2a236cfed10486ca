-- What a wallet did in the range, by hl.user_stats. A wallet without rows did nothing on the days that are loaded.
SELECT first_fill, last_fill, coalesce(s.days, 0) AS days, coalesce(fills, 0)::bigint AS fills,
       coalesce(non_market_rows, 0)::bigint AS non_market_rows,
       CASE WHEN is_seen THEN maker_fills::bigint ELSE 0 END AS maker_fills,
       CASE WHEN is_seen THEN taker_fills::bigint ELSE 0 END AS taker_fills,
       CASE WHEN is_seen THEN trim_scale(maker_notional) ELSE 0 END AS maker_notional,
       CASE WHEN is_seen THEN trim_scale(taker_notional) ELSE 0 END AS taker_notional,
       CASE WHEN is_seen THEN trim_scale(maker_notional + taker_notional) ELSE 0 END AS notional,
       CASE WHEN is_seen THEN trim_scale(closed_pnl) ELSE 0 END AS closed_pnl,
       coalesce(closed_pnl_known, 0)::bigint AS closed_pnl_known, coalesce(fees_known, 0)::bigint AS fees_known,
       CASE WHEN is_seen THEN trim_scale(fees_in_quote) ELSE 0 END AS fees_in_quote,
       CASE WHEN is_seen THEN trim_scale(closed_pnl - fees_in_quote) ELSE 0 END AS net_pnl,
       CASE WHEN is_seen THEN fees ELSE '{}' END AS fees, most.coins AS most_coins_in_a_day, is_complete
FROM (SELECT coalesce(max(coins), 0) AS coins FROM hl.user_stats
      WHERE wallet = %(wallet)s AND date BETWEEN %(start)s AND %(end)s) most
LEFT JOIN (SELECT true AS is_seen, * FROM hl.user_stats_by('all', %(start)s, %(end)s, %(wallet)s)) s ON true
