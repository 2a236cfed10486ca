-- Requests to buckets whose requester pays, from one UTC day to another (NULL: no bound): all together, by bucket, and by UTC month.
-- What is under way counts with the most it can cost, as in the budget.
SELECT bucket, month, count(*) AS requests, count(*) FILTER (WHERE error <> 'not finished') AS failed_requests,
       coalesce(sum(bytes) FILTER (WHERE error IS DISTINCT FROM 'not finished'), 0)::bigint AS received_bytes,
       trim_scale(coalesce(sum(dollars), 0)) AS dollars
FROM (SELECT *, date_trunc('month', at, 'UTC')::date AS month FROM hl.s3_requests) requests
WHERE (%(start)s::date IS NULL OR at >= %(start)s::date::timestamp AT TIME ZONE 'UTC')
  AND (%(end)s::date IS NULL OR at < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC')
GROUP BY GROUPING SETS ((), (bucket), (month))
ORDER BY bucket NULLS FIRST, month NULLS FIRST
