-- The TWAPs of a wallet in a range, newest first, and the event shown for each. If a TWAP has events in the range, its latest one
-- there is shown. Otherwise, its window must overlap the range (hl.twaps, also TWAPs with only slices), and its last event before
-- the range is shown. If it has no event, the time of its last slice counts.
WITH listed AS (
    (
        -- Walks the index twap_statuses_wallet backwards until the limit, and skips events if the primary key has a later one in
        -- the range. OFFSET 0 and IS NOT DISTINCT FROM (which cannot use an index) force this plan, even if the planner's
        -- statistics of a table that has just grown are out of date.
        SELECT time_ns, s.twap_id, time_ns AS event_ns, place, status
        FROM hl.twap_statuses s
        WHERE wallet = %(wallet)s AND time_ns >= %(start_ns)s AND time_ns <= %(end_ns)s
          AND (time_ns, s.twap_id) < (%(before_ns)s, %(before_id)s) AND (%(asset)s::text IS NULL OR coin = %(asset)s)
          AND NOT EXISTS (
              SELECT FROM hl.twap_statuses later
              WHERE later.twap_id = s.twap_id AND (later.time_ns, later.place, later.status) > (s.time_ns, s.place, s.status)
                AND later.time_ns <= %(end_ns)s AND later.wallet IS NOT DISTINCT FROM s.wallet
                AND (%(asset)s::text IS NULL OR later.coin = %(asset)s)
              OFFSET 0)
        ORDER BY time_ns DESC, s.twap_id DESC
        LIMIT %(limit)s::bigint + %(offset)s::bigint
    ) UNION ALL (
        SELECT time_ns, twap_id, event_ns, place, status
        FROM (
            SELECT t.twap_id, event.time_ns AS event_ns, event.place, event.status,
                   coalesce(event.time_ns, (extract(epoch FROM coalesce(t.last_slice_at, t.begins_at)) * 1000000)::bigint * 1000)
                       AS time_ns
            FROM hl.twaps t
            LEFT JOIN LATERAL (
                SELECT one.time_ns, one.place, one.status FROM hl.twap_statuses one
                WHERE one.twap_id = t.twap_id AND one.time_ns <= %(end_ns)s AND one.wallet IS NOT DISTINCT FROM t.wallet
                  AND (%(asset)s::text IS NULL OR one.coin = %(asset)s)
                ORDER BY one.time_ns DESC, one.place DESC, one.status DESC LIMIT 1
            ) event ON true
            WHERE t.wallet = %(wallet)s AND (%(asset)s::text IS NULL OR t.coin = %(asset)s)
              AND least(t.begins_at, t.first_slice_at) <= %(end)s
              AND greatest(coalesce(t.ended_at, t.planned_end, t.last_slice_at, t.begins_at), t.last_slice_at) >= %(start)s
              -- TWAPs that ended within the range have their event there, so they are excluded. All others end after the range,
              -- if an unknown end, or an end with a later slice, counts as infinity: index twaps_window.
              AND (t.ended_at BETWEEN %(start)s AND %(end)s::timestamptz - interval '1 ms') IS NOT TRUE
              AND CASE WHEN t.last_slice_at > t.ended_at THEN 'infinity' ELSE coalesce(t.ended_at, 'infinity') END
                  > %(end)s::timestamptz - interval '1 ms'
              AND (event.time_ns >= %(start_ns)s) IS NOT TRUE
        ) overlapping
        WHERE (time_ns, twap_id) < (%(before_ns)s, %(before_id)s)
        ORDER BY time_ns DESC, twap_id DESC
        LIMIT %(limit)s::bigint + %(offset)s::bigint
    )
    ORDER BY time_ns DESC, twap_id DESC
    LIMIT %(limit)s OFFSET %(offset)s
), shown AS (
    SELECT l.time_ns, l.twap_id, coalesce(s.wallet, t.wallet) AS wallet, coalesce(s.coin, t.coin) AS asset,
           coalesce(s.side, t.side) AS side, s.status, s.error, s.duration_minutes, s.started_at,
           coalesce(s.time, t.last_slice_at, t.begins_at) AS latest_ts, s.size_requested,
           CASE WHEN s.twap_id IS NULL THEN t.size_observed ELSE s.size_executed END AS size_executed,
           CASE WHEN s.twap_id IS NULL THEN t.notional_observed ELSE s.notional_executed END AS notional_executed,
           s.reduce_only, s.randomize,
           CASE WHEN %(all_rows)s THEN
               jsonb_build_object('latest', s.raw_payload, 'all_rows', coalesce((
                   SELECT jsonb_agg(one.raw_payload ORDER BY one.time_ns DESC, one.place DESC, one.status DESC)
                   FROM hl.twap_statuses one
                   WHERE one.twap_id = s.twap_id AND one.time_ns BETWEEN %(start_ns)s AND %(end_ns)s
                     AND one.wallet IS NOT DISTINCT FROM s.wallet AND (%(asset)s::text IS NULL OR one.coin = %(asset)s)), '[]'))
           ELSE s.raw_payload END AS raw
    FROM listed l
    LEFT JOIN hl.twap_statuses s ON (s.twap_id, s.time_ns, s.place, s.status) = (l.twap_id, l.event_ns, l.place, l.status)
    LEFT JOIN hl.twaps t ON t.twap_id = l.twap_id
)
