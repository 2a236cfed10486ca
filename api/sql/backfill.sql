-- How far the info API was queried for a wallet, if that window overlaps the range. For a wallet that was not queried: if part of
-- the range is from before the buckets have whole fills.
SELECT coalesce(nullif(state, 'pending'), 'not asked'), window_start, window_end, oldest, coalesce(reason, error, history_error),
       history_at
FROM (SELECT %(wallet)s::text AS wallet) asked LEFT JOIN hl.backfill_progress USING (wallet)
WHERE coalesce(window_start, '2023-02-26Z') < %(end)s AND coalesce(window_end, '2025-05-25 14:00Z') > %(start)s
  AND wallet IS NOT NULL
