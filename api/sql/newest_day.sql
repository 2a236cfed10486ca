-- The newest day that is over, loaded and summed. what: twaps, user_stats or builder_stats.
SELECT max(date) FROM (
    SELECT date, state FROM hl.twap_days WHERE %(what)s::text = 'twaps' AND twaps_at IS NOT NULL
    UNION ALL
    SELECT date, state FROM hl.fills_days
    WHERE CASE %(what)s::text WHEN 'user_stats' THEN user_stats_at WHEN 'builder_stats' THEN builder_stats_at END IS NOT NULL
) summed_days
WHERE state IS NULL OR state NOT IN ('pending', 'no source')
