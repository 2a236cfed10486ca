-- The TWAPs of a coin that run at a moment. One without a known end runs until its statuses are overdue.
WITH running AS (
    -- No TWAP is planned for more than three days, so the index (coin, begins_at) finds those that may run. seen_to is after every
    -- end, known or planned.
    SELECT * FROM hl.twaps
    WHERE coin = %(coin)s AND begins_at <= %(at)s AND begins_at >= %(at)s::timestamptz - interval '4 days'
      AND seen_to > %(at)s AND coalesce(ended_at, planned_end, 'infinity') > %(at)s
)
