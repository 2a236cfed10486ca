-- The loaded days of fills and of TWAP statuses: the first, the last, how many, and how many of them are whole.
SELECT min(date), max(date), count(*), count(*) FILTER (WHERE state = 'whole') FROM hl.fills_days
UNION ALL
SELECT min(date), max(date), count(*), count(*) FILTER (WHERE state = 'whole') FROM hl.twap_days
