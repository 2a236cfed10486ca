-- This month's requests (UTC) to buckets whose requester pays. What is under way counts with what it can cost, as in the budget.
WITH requests AS (
    SELECT count(*) AS count, coalesce(sum(dollars), 0) AS dollars,
           coalesce(sum(bytes) FILTER (WHERE error IS DISTINCT FROM 'not finished'), 0) AS bytes,
           count(*) FILTER (WHERE error <> 'not finished') AS failed
    FROM hl.s3_requests WHERE at >= date_trunc('month', now(), 'UTC')
)
SELECT metric, ARRAY[]::text[], value::double precision
FROM requests, LATERAL (VALUES
    ('hl_s3_month_requests', count::numeric),
    ('hl_s3_month_failed_requests', failed),
    ('hl_s3_month_received_bytes', bytes),
    ('hl_s3_month_spent_dollars', dollars)
) AS measured(metric, value)
