-- Candles of a coin, of several minutes each, that begin in the range. Each has all its minutes. The query walks the primary key
-- from each candle to the next minute after it, until the limit.
WITH RECURSIVE asked AS (
    SELECT step, date_bin(step, %(end)s::timestamptz, origin) + step AS bound,
           greatest(date_bin(step, %(start)s::timestamptz + step - interval '1 microsecond', origin),
                    %(after)s::timestamptz + step) AS first
    FROM (SELECT %(step)s::interval AS step, timestamptz '2000-01-01Z' AS origin) given
), begun AS (
    SELECT (SELECT date_bin(step, time, '2000-01-01Z') FROM hl.candles
            WHERE coin = %(coin)s AND time >= first AND time < bound ORDER BY time LIMIT 1) AS time
    FROM asked
    UNION ALL
    SELECT (SELECT date_bin(step, c.time, '2000-01-01Z') FROM hl.candles c
            WHERE c.coin = %(coin)s AND c.time >= begun.time + step AND c.time < bound ORDER BY c.time LIMIT 1)
    FROM begun, asked WHERE begun.time IS NOT NULL
)
SELECT %(coin)s::text AS coin, page.time, trim_scale(open) AS open, trim_scale(high) AS high, trim_scale(low) AS low,
       trim_scale(close) AS close, trim_scale(volume) AS volume, trim_scale(notional) AS notional, trades,
       (page.time AT TIME ZONE 'UTC')::date AS date
FROM (SELECT time FROM begun WHERE time IS NOT NULL LIMIT %(limit)s) page, asked, LATERAL (
    SELECT (array_agg(c.open ORDER BY c.time))[1] AS open, max(c.high) AS high, min(c.low) AS low,
           (array_agg(c.close ORDER BY c.time DESC))[1] AS close,
           CASE WHEN count(c.volume) = count(*) THEN sum(c.volume) END AS volume,
           CASE WHEN count(c.notional) = count(*) THEN sum(c.notional) END AS notional, sum(c.trades)::bigint AS trades
    FROM hl.candles c WHERE c.coin = %(coin)s AND c.time >= page.time AND c.time < page.time + step) minutes
ORDER BY page.time
