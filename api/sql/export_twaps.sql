-- After twaps_listed.sql: its TWAPs, with what hl.twaps knows beside the event.
SELECT s.twap_id, s.wallet, s.asset, s.side, s.status, s.error, s.duration_minutes, s.started_at, s.latest_ts, s.size_requested,
       s.size_executed, s.notional_executed, s.reduce_only, s.randomize, s.raw,
       verdict, begins_at, planned_end, ended_at, statuses, size_reported, notional_reported, fills, slices, slices_due,
       size_observed, notional_observed, first_slice_at, last_slice_at, vwap, whole_minutes, market_volume, market_notional,
       market_vwap, own_volume, own_notional, market_vwap_without_own, participation, arrival_px, slippage_bps,
       slippage_without_own_bps, slippage_arrival_bps, schedule_deviation, maker_share, fees, closed_pnl, is_complete,
       seen_from, seen_to
FROM shown s LEFT JOIN hl.twaps t ON t.twap_id = s.twap_id
ORDER BY s.time_ns DESC, s.twap_id DESC
