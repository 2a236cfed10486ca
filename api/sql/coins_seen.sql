-- Every coin of the statistics, and the tokens of its fees on its last days, separated by spaces. The query walks the index
-- daily_stats_coin from each coin to the next.
WITH RECURSIVE seen AS (
    (SELECT coin FROM hl.daily_stats ORDER BY coin LIMIT 1)
    UNION ALL
    SELECT (SELECT d.coin FROM hl.daily_stats d WHERE d.coin > seen.coin ORDER BY d.coin LIMIT 1)
    FROM seen WHERE seen.coin IS NOT NULL
)
SELECT coin, (
    SELECT coalesce(string_agg(DISTINCT token, ' '), '')
    FROM (SELECT d.fees FROM hl.daily_stats d WHERE d.coin = seen.coin ORDER BY d.date DESC LIMIT 30) days,
         json_object_keys(days.fees) token) AS tokens
FROM seen WHERE coin IS NOT NULL
