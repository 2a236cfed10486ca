-- Statistics per day and wallet.
SELECT date, wallet, fills, non_market_rows, maker_fills, taker_fills, trim_scale(maker_notional) AS maker_notional,
       trim_scale(taker_notional) AS taker_notional, trim_scale(closed_pnl) AS closed_pnl, closed_pnl_known, fees_known,
       coins, twaps, first_fill, last_fill, fees, sources, is_complete, trim_scale(fees_in_quote) AS fees_in_quote
FROM hl.user_stats
WHERE date BETWEEN %(start)s AND %(end)s AND (%(wallet)s::text IS NULL OR wallet = %(wallet)s)
  AND (date, wallet) > (%(after_date)s::date, %(after_wallet)s::text)
ORDER BY date, wallet LIMIT %(limit)s
