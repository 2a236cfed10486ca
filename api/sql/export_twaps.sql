-- Follows twaps_listed.sql: its TWAPs, with the columns of hl.twaps in addition to the event. A cursor needs time_ns.
SELECT s.time_ns, s.twap_id::text AS twap_id, s.wallet, s.asset, s.side, s.status, s.error, s.duration_minutes, s.started_at,
       s.latest_ts, trim_scale(s.size_requested) AS size_requested, trim_scale(s.size_executed) AS size_executed,
       trim_scale(s.notional_executed) AS notional_executed, s.reduce_only, s.randomize, s.raw, verdict, begins_at,
       planned_end, ended_at, statuses, trim_scale(size_reported) AS size_reported,
       trim_scale(notional_reported) AS notional_reported, fills, slices, slices_due,
       trim_scale(size_observed) AS size_observed, trim_scale(notional_observed) AS notional_observed, first_slice_at,
       last_slice_at, trim_scale(vwap) AS vwap, whole_minutes, trim_scale(market_volume) AS market_volume,
       trim_scale(market_notional) AS market_notional, trim_scale(market_vwap) AS market_vwap,
       trim_scale(own_volume) AS own_volume, trim_scale(own_notional) AS own_notional,
       trim_scale(market_vwap_without_own) AS market_vwap_without_own, trim_scale(participation) AS participation,
       trim_scale(arrival_px) AS arrival_px, trim_scale(slippage_bps) AS slippage_bps,
       trim_scale(slippage_without_own_bps) AS slippage_without_own_bps,
       trim_scale(slippage_arrival_bps) AS slippage_arrival_bps, trim_scale(schedule_deviation) AS schedule_deviation,
       trim_scale(maker_share) AS maker_share, fees, trim_scale(closed_pnl) AS closed_pnl, is_complete, seen_from, seen_to
FROM shown s LEFT JOIN hl.twaps t ON t.twap_id = s.twap_id
ORDER BY s.time_ns DESC, s.twap_id DESC
