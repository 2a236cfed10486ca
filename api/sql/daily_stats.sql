-- Statistics of days and coins.
SELECT * FROM hl.daily_stats
WHERE date BETWEEN %(start)s AND %(end)s AND (%(coin)s::text IS NULL OR coin = %(coin)s)
  AND (date, coin) > (%(after_date)s::date, %(after_coin)s::text)
ORDER BY date, coin LIMIT %(limit)s
