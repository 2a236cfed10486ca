-- Whether a coin, if one is given, was ever seen in statistics, candles, TWAPs or the statuses of a wallet. Without any
-- statistics, every coin counts as seen. ORDER BY makes each subquery use its index for one row; EXISTS alone may scan a table
-- until it finds a row.
SELECT %(coin)s::text IS NULL
    OR NOT EXISTS (SELECT FROM hl.daily_stats)
    OR (SELECT true FROM hl.daily_stats WHERE coin = %(coin)s ORDER BY date LIMIT 1) IS NOT NULL
    OR (SELECT true FROM hl.candles WHERE coin = %(coin)s ORDER BY time LIMIT 1) IS NOT NULL
    OR (SELECT true FROM hl.twaps WHERE coin = %(coin)s ORDER BY begins_at LIMIT 1) IS NOT NULL
    OR (SELECT true FROM hl.twap_statuses WHERE wallet = %(wallet)s AND coin = %(coin)s ORDER BY time_ns LIMIT 1) IS NOT NULL
