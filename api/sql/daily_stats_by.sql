-- hl.daily_stats_by, period by period. Within a period, coins with the highest (or lowest) sort value come first. A page begins
-- after a row, given by its period, sort value and coin. Without a coin, it begins at the first row.
WITH valued AS (
    SELECT *, coalesce(period_start, '-infinity') AS start,
           CASE %(sort)s::text WHEN 'notional' THEN notional WHEN 'volume' THEN volume WHEN 'trades' THEN trades
                               WHEN 'fills' THEN fills WHEN 'fees_in_quote' THEN fees_in_quote
                               WHEN 'liquidation_notional' THEN liquidation_notional WHEN 'twap_notional' THEN twap_notional
                               WHEN 'builder_notional' THEN builder_notional END
           * CASE %(order)s::text WHEN 'asc' THEN -1 ELSE 1 END AS value
    FROM hl.daily_stats_by(%(period)s, %(start)s, %(end)s) WHERE %(coin)s::text IS NULL OR coin = %(coin)s
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY start ORDER BY value DESC NULLS LAST, coin) AS place FROM valued
), cut AS (
    SELECT %(after_value)s::numeric * CASE %(order)s::text WHEN 'asc' THEN -1 ELSE 1 END AS after_value
)
SELECT period_start, days, coin, kind, fills::bigint AS fills, non_market_rows::bigint AS non_market_rows,
       fees_known::bigint AS fees_known, trim_scale(fees_in_quote) AS fees_in_quote, trades::bigint AS trades,
       trim_scale(volume) AS volume, trim_scale(notional) AS notional, buys::bigint AS buys, sells::bigint AS sells,
       trim_scale(buy_volume) AS buy_volume, trim_scale(sell_volume) AS sell_volume, trim_scale(buy_notional) AS buy_notional,
       trim_scale(sell_notional) AS sell_notional, liquidations::bigint AS liquidations,
       trim_scale(liquidation_notional) AS liquidation_notional, trim_scale(twap_volume) AS twap_volume,
       trim_scale(twap_notional) AS twap_notional, trim_scale(builder_volume) AS builder_volume,
       trim_scale(builder_notional) AS builder_notional, trim_scale(open) AS open, trim_scale(high) AS high,
       trim_scale(low) AS low, trim_scale(close) AS close, fees, is_complete, trim_scale(vwap) AS vwap
FROM placed, cut
WHERE (%(top)s::bigint IS NULL OR place <= %(top)s)
  AND (%(after_coin)s::text IS NULL OR start > %(after_start)s::date
       OR start = %(after_start)s::date
          AND (value < after_value OR value IS NULL AND after_value IS NOT NULL
               OR value IS NOT DISTINCT FROM after_value AND coin > %(after_coin)s))
ORDER BY start, value DESC NULLS LAST, coin LIMIT %(limit)s
