-- Whether a coin was ever seen: in candles, statistics, TWAPs, the statuses of a wallet, or in the fills of a day whose statistics
-- are not made yet. Where there are no statistics at all nothing can be said of any coin.
SELECT EXISTS (SELECT FROM hl.daily_stats WHERE coin = %(coin)s)
    OR EXISTS (SELECT FROM hl.candles WHERE coin = %(coin)s)
    OR EXISTS (SELECT FROM hl.twaps WHERE coin = %(coin)s)
    OR EXISTS (SELECT FROM hl.twap_statuses WHERE wallet = %(wallet)s AND coin = %(coin)s)
    OR NOT EXISTS (SELECT FROM hl.daily_stats)
    OR EXISTS (
        SELECT FROM hl.fills_days d JOIN hl.fills f ON f.time >= d.date::timestamp AT TIME ZONE 'UTC'
                                                   AND f.time < (d.date + 1)::timestamp AT TIME ZONE 'UTC'
        WHERE d.daily_stats_at IS NULL AND f.coin = %(coin)s)
