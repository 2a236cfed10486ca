-- One-minute candles of a coin.
SELECT coin, time, trim_scale(open) AS open, trim_scale(high) AS high, trim_scale(low) AS low, trim_scale(close) AS close,
       trim_scale(volume) AS volume, trim_scale(notional) AS notional, trades, date
FROM hl.candles
WHERE coin = %(coin)s AND time BETWEEN %(start)s AND %(end)s AND time > %(after)s::timestamptz
ORDER BY time LIMIT %(limit)s
