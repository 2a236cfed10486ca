-- Statistics of days and wallets.
SELECT * FROM hl.user_stats
WHERE date BETWEEN %(start)s AND %(end)s AND (%(wallet)s::text IS NULL OR wallet = %(wallet)s)
  AND (date, wallet) > (%(after_date)s::date, %(after_wallet)s::text)
ORDER BY date, wallet LIMIT %(limit)s
