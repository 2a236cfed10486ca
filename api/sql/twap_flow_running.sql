-- The TWAPs of a coin that run at a moment. One without a known end runs until its statuses are overdue.
WITH running AS (
    -- seen_to is after every end, known or planned, so the index (coin, seen_to, begins_at) finds the TWAPs that may run.
    SELECT * FROM hl.twaps
    WHERE coin = %(coin)s AND begins_at <= %(at)s AND seen_to > %(at)s AND coalesce(ended_at, planned_end, 'infinity') > %(at)s
)
