-- twaps.sql, with what hl.twaps knows beside the event.
SELECT s.twap_id, s.wallet, s.coin AS asset, s.side, s.status, s.error, s.duration_minutes, s.started_at, s.time AS latest_ts,
       s.size_requested, s.size_executed, s.notional_executed, s.reduce_only, s.randomize,
       CASE WHEN %(all_rows)s THEN
           jsonb_build_object('latest', s.raw_payload, 'all_rows', (
               SELECT jsonb_agg(one.raw_payload ORDER BY one.time_ns DESC, one.place DESC, one.status DESC)
               FROM hl.twap_statuses one
               WHERE one.twap_id = s.twap_id AND one.time_ns BETWEEN %(start_ns)s AND %(end_ns)s
                 AND one.wallet IS NOT DISTINCT FROM s.wallet AND (%(asset)s::text IS NULL OR one.coin = %(asset)s)))
       ELSE s.raw_payload END AS raw,
       verdict, begins_at, planned_end, ended_at, statuses, size_reported, notional_reported, fills, slices, slices_due,
       size_observed, notional_observed, first_slice_at, last_slice_at, vwap, whole_minutes, market_volume, market_notional,
       market_vwap, own_volume, own_notional, market_vwap_without_own, participation, arrival_px, slippage_bps,
       slippage_without_own_bps, slippage_arrival_bps, schedule_deviation, maker_share, fees, closed_pnl, is_complete,
       seen_from, seen_to
FROM hl.twap_statuses s LEFT JOIN hl.twaps t ON t.twap_id = s.twap_id
WHERE s.wallet = %(wallet)s AND s.time_ns >= %(start_ns)s AND (s.time_ns, s.twap_id) < (%(before_ns)s, %(before_id)s)
  AND (%(asset)s::text IS NULL OR s.coin = %(asset)s)
  AND NOT EXISTS (
      SELECT FROM hl.twap_statuses later
      WHERE later.twap_id = s.twap_id AND (later.time_ns, later.place, later.status) > (s.time_ns, s.place, s.status)
        AND later.time_ns <= %(end_ns)s AND later.wallet IS NOT DISTINCT FROM s.wallet
        AND (%(asset)s::text IS NULL OR later.coin = %(asset)s)
      OFFSET 0)
ORDER BY s.time_ns DESC, s.twap_id DESC
LIMIT %(limit)s OFFSET %(offset)s
