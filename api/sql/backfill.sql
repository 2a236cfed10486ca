-- How far the info API was asked for a wallet, if a part of the range is in the window that it was asked for; of one that was not
-- asked for, if a part is from before the buckets have whole fills.
SELECT coalesce(nullif(state, 'pending'), 'not asked'), window_start, window_end, oldest, coalesce(reason, error, history_error),
       history_at
FROM (SELECT %(wallet)s::text AS wallet) asked LEFT JOIN hl.backfill_progress USING (wallet)
WHERE coalesce(window_start, '2023-02-26Z') < %(end)s AND coalesce(window_end, '2025-05-25 14:00Z') > %(start)s
  AND wallet IS NOT NULL
