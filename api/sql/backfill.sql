-- How far the info API was asked for a wallet, if a part of the range is in the window that it was asked for.
SELECT state, window_start, window_end, oldest, coalesce(reason, error)
FROM hl.backfill_progress
WHERE wallet = %(wallet)s AND window_start < %(end)s AND window_end > %(start)s
