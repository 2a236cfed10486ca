-- Requests to buckets whose requester pays, from one UTC day to another, by bucket; NULL: no bound. The row without a bucket has all
-- of them. What is under way counts with the most it can cost, as in the budget.
SELECT bucket, count(*) AS requests, count(*) FILTER (WHERE error <> 'not finished') AS failed_requests,
       coalesce(sum(bytes) FILTER (WHERE error IS DISTINCT FROM 'not finished'), 0)::bigint AS received_bytes,
       trim_scale(coalesce(sum(dollars), 0)) AS dollars
FROM hl.s3_requests
WHERE (%(start)s::date IS NULL OR at >= %(start)s::date::timestamp AT TIME ZONE 'UTC')
  AND (%(end)s::date IS NULL OR at < (%(end)s::date + 1)::timestamp AT TIME ZONE 'UTC')
GROUP BY GROUPING SETS ((), (bucket))
ORDER BY bucket NULLS FIRST
