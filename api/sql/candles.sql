-- Candles of a coin, a minute each.
SELECT * FROM hl.candles
WHERE coin = %(coin)s AND time BETWEEN %(start)s AND %(end)s AND time > %(after)s::timestamptz
ORDER BY time LIMIT %(limit)s
