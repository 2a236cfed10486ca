-- Of Dagster's own database, whose times are UTC without saying so.
SELECT 'hl_runs', ARRAY[status::text], count(*)::double precision FROM runs GROUP BY status
UNION ALL
SELECT 'hl_runs_queued', ARRAY[]::text[], count(*)::double precision FROM runs WHERE status = 'QUEUED'
UNION ALL
SELECT 'hl_oldest_queued_run_seconds', ARRAY[]::text[],
       extract(epoch FROM now() AT TIME ZONE 'UTC' - min(create_timestamp))::double precision
FROM runs WHERE status = 'QUEUED' HAVING count(*) > 0
UNION ALL
SELECT 'hl_last_day_failed_runs', ARRAY[]::text[], count(*)::double precision
FROM runs WHERE status = 'FAILURE'
  AND coalesce(end_time, extract(epoch FROM update_timestamp)) > extract(epoch FROM now()) - 86400
UNION ALL
SELECT 'hl_daemon_heartbeat_age_seconds', ARRAY[daemon_type::text],
       extract(epoch FROM now() AT TIME ZONE 'UTC' - "timestamp")::double precision
FROM daemon_heartbeats
