-- Follows builders_summed.sql.
SELECT builder, days, coins, fills, non_market_rows, fills_with_fee, notional, fees_in_quote, is_complete, fees
FROM summed WHERE %(after_name)s::text IS NULL OR name > %(after_name)s
ORDER BY name LIMIT %(limit)s
