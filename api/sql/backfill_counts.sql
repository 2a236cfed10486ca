-- The number of wallets, by state, that the info API was or will be queried for, if their window overlaps the range.
SELECT min(window_start), max(window_end), count(*) FILTER (WHERE state = 'complete'),
       count(*) FILTER (WHERE state = 'truncated'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state IN ('pending', 'started'))
FROM hl.backfill_progress
HAVING coalesce(min(window_start), '2023-02-26Z') < %(end)s AND coalesce(max(window_end), '2025-05-25 14:00Z') > %(start)s
   AND count(*) > 0
