-- What this UTC month has cost so far, as the budget counts it.
SELECT date_trunc('month', now(), 'UTC')::date AS month, trim_scale(coalesce(sum(dollars), 0)) AS dollars
FROM hl.s3_requests WHERE at >= date_trunc('month', now(), 'UTC')
