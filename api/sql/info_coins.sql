-- Every coin of the statistics, the tokens of its fees on its last days, and the most decimals that its daily volumes have there.
-- The query walks the index daily_stats_coin from each coin to the next.
WITH RECURSIVE seen AS (
    (SELECT coin FROM hl.daily_stats ORDER BY coin LIMIT 1)
    UNION ALL
    SELECT (SELECT d.coin FROM hl.daily_stats d WHERE d.coin > seen.coin ORDER BY d.coin LIMIT 1)
    FROM seen WHERE seen.coin IS NOT NULL
)
SELECT coin, coalesce(tokens, '') AS tokens, coalesce(decimals, 0) AS decimals
FROM seen, LATERAL (
    SELECT string_agg(DISTINCT token, ' ') AS tokens, max(scale(trim_scale(volume))) AS decimals
    FROM (SELECT d.fees, d.volume FROM hl.daily_stats d WHERE d.coin = seen.coin ORDER BY d.date DESC LIMIT 30) days
         LEFT JOIN LATERAL json_object_keys(days.fees) token ON true) own
WHERE coin IS NOT NULL
ORDER BY coin COLLATE "C"
