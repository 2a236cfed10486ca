-- Statistics per day and coin.
SELECT date, coin, kind, fills, non_market_rows, fees_known, trim_scale(fees_in_quote) AS fees_in_quote, trades,
       trim_scale(volume) AS volume, trim_scale(notional) AS notional, buys, sells, trim_scale(buy_volume) AS buy_volume,
       trim_scale(sell_volume) AS sell_volume, trim_scale(buy_notional) AS buy_notional,
       trim_scale(sell_notional) AS sell_notional, liquidations, trim_scale(liquidation_notional) AS liquidation_notional,
       trim_scale(twap_volume) AS twap_volume, trim_scale(twap_notional) AS twap_notional,
       trim_scale(builder_volume) AS builder_volume, trim_scale(builder_notional) AS builder_notional, wallets,
       trim_scale(open) AS open, trim_scale(high) AS high, trim_scale(low) AS low, trim_scale(close) AS close, fees,
       is_complete, trim_scale(vwap) AS vwap
FROM hl.daily_stats
WHERE date BETWEEN %(start)s AND %(end)s AND (%(coin)s::text IS NULL OR coin = %(coin)s)
  AND (date, coin) > (%(after_date)s::date, %(after_coin)s::text)
ORDER BY date, coin LIMIT %(limit)s
