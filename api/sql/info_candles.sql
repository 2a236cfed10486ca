-- The newest candles of a coin that begin in a range, oldest first. The query walks the primary key backwards, from each candle to
-- the last minute before it, until the limit.
WITH RECURSIVE asked AS (
    SELECT step, date_bin(step, %(end)s::timestamptz, origin) + step AS bound,
           date_bin(step, %(start)s::timestamptz + step - interval '1 microsecond', origin) AS first
    FROM (SELECT %(step)s::interval AS step, timestamptz '2000-01-01Z' AS origin) given
), begun AS (
    SELECT (SELECT date_bin(step, time, '2000-01-01Z') FROM hl.candles
            WHERE coin = %(coin)s AND time >= first AND time < bound ORDER BY time DESC LIMIT 1) AS time
    FROM asked
    UNION ALL
    SELECT (SELECT date_bin(step, c.time, '2000-01-01Z') FROM hl.candles c
            WHERE c.coin = %(coin)s AND c.time >= first AND c.time < begun.time ORDER BY c.time DESC LIMIT 1)
    FROM begun, asked WHERE begun.time IS NOT NULL
)
SELECT (extract(epoch FROM page.time) * 1000)::bigint AS t, (extract(epoch FROM page.time + step) * 1000)::bigint - 1 AS "T",
       trim_scale(open) AS o, trim_scale(close) AS c, trim_scale(high) AS h, trim_scale(low) AS l, trim_scale(volume) AS v,
       trades AS n
FROM (SELECT time FROM begun WHERE time IS NOT NULL LIMIT %(limit)s) page, asked, LATERAL (
    SELECT (array_agg(c.open ORDER BY c.time))[1] AS open, max(c.high) AS high, min(c.low) AS low,
           (array_agg(c.close ORDER BY c.time DESC))[1] AS close,
           CASE WHEN count(c.volume) = count(*) THEN sum(c.volume) END AS volume, sum(c.trades)::bigint AS trades
    FROM hl.candles c WHERE c.coin = %(coin)s AND c.time >= page.time AND c.time < page.time + step) minutes
ORDER BY page.time
