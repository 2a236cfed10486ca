-- Follows leaderboard_shown.sql.
SELECT rank, builder, days, coins, fills, non_market_rows, fills_with_fee, notional, fees_in_quote, is_complete, fees
FROM shown JOIN summed USING (name) ORDER BY place
