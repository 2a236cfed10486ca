-- The wallets that the info API was asked for, or is to be asked for, by state, if a part of the range is in their window.
SELECT min(window_start), max(window_end), count(*) FILTER (WHERE state = 'complete'),
       count(*) FILTER (WHERE state = 'truncated'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state IN ('pending', 'started'))
FROM hl.backfill_progress
HAVING coalesce(min(window_start), '2023-02-26Z') < %(end)s AND coalesce(max(window_end), '2025-05-25 14:00Z') > %(start)s
   AND count(*) > 0
