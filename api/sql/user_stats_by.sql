-- Like daily_stats_by.sql, for wallets.
WITH worth AS (
    SELECT s.*, maker_notional + taker_notional AS notional
    FROM hl.user_stats_by(%(period)s, %(start)s, %(end)s, %(wallet)s) s
), valued AS (
    SELECT *, coalesce(period_start, '-infinity') AS start,
           CASE %(sort)s::text WHEN 'notional' THEN notional WHEN 'maker_notional' THEN maker_notional
                               WHEN 'taker_notional' THEN taker_notional WHEN 'fills' THEN fills
                               WHEN 'closed_pnl' THEN closed_pnl WHEN 'fees_in_quote' THEN fees_in_quote END
           * CASE %(order)s::text WHEN 'asc' THEN -1 ELSE 1 END AS value
    FROM worth
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY start ORDER BY value DESC NULLS LAST, wallet) AS place FROM valued
), cut AS (
    SELECT %(after_value)s::numeric * CASE %(order)s::text WHEN 'asc' THEN -1 ELSE 1 END AS after_value
)
SELECT period_start, days, wallet, fills::bigint AS fills, non_market_rows::bigint AS non_market_rows,
       maker_fills::bigint AS maker_fills, taker_fills::bigint AS taker_fills, trim_scale(maker_notional) AS maker_notional,
       trim_scale(taker_notional) AS taker_notional, trim_scale(notional) AS notional, trim_scale(closed_pnl) AS closed_pnl,
       closed_pnl_known::bigint AS closed_pnl_known, fees_known::bigint AS fees_known,
       trim_scale(fees_in_quote) AS fees_in_quote, first_fill, last_fill, fees, is_complete
FROM placed, cut
WHERE (%(top)s::bigint IS NULL OR place <= %(top)s)
  AND (%(after_wallet)s::text IS NULL OR start > %(after_start)s::date
       OR start = %(after_start)s::date
          AND (value < after_value OR value IS NULL AND after_value IS NOT NULL
               OR value IS NOT DISTINCT FROM after_value AND wallet > %(after_wallet)s))
ORDER BY start, value DESC NULLS LAST, wallet LIMIT %(limit)s
