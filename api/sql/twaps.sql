-- The latest event of each TWAP of a wallet in the range, newest first: index twap_statuses_wallet walked backwards until the
-- limit, leaving out what the primary key shows to have a later event in the range. OFFSET 0 and IS NOT DISTINCT FROM (which no
-- index serves) leave the planner no other way, whatever it believes of a table that has just grown.
SELECT time_ns, twap_id::text AS twap_id, wallet, coin AS asset, side, status, error, duration_minutes, started_at,
       time AS latest_ts, size_requested, size_executed, notional_executed, reduce_only, randomize,
       CASE WHEN %(all_rows)s THEN
           jsonb_build_object('latest', raw_payload, 'all_rows', (
               SELECT jsonb_agg(one.raw_payload ORDER BY one.time_ns DESC, one.place DESC, one.status DESC)
               FROM hl.twap_statuses one
               WHERE one.twap_id = s.twap_id AND one.time_ns BETWEEN %(start_ns)s AND %(end_ns)s
                 AND one.wallet IS NOT DISTINCT FROM s.wallet AND (%(asset)s::text IS NULL OR one.coin = %(asset)s)))
       ELSE raw_payload END AS raw
FROM hl.twap_statuses s
WHERE wallet = %(wallet)s AND time_ns >= %(start_ns)s AND (time_ns, s.twap_id) < (%(before_ns)s, %(before_id)s)
  AND (%(asset)s::text IS NULL OR coin = %(asset)s)
  AND NOT EXISTS (
      SELECT FROM hl.twap_statuses later
      WHERE later.twap_id = s.twap_id AND (later.time_ns, later.place, later.status) > (s.time_ns, s.place, s.status)
        AND later.time_ns <= %(end_ns)s AND later.wallet IS NOT DISTINCT FROM s.wallet
        AND (%(asset)s::text IS NULL OR later.coin = %(asset)s)
      OFFSET 0)
ORDER BY time_ns DESC, s.twap_id DESC
LIMIT %(limit)s OFFSET %(offset)s
