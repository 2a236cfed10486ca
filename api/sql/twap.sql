-- All events of a TWAP, newest first.
SELECT wallet, time AS ts, coin AS asset, side, trim_scale(size_requested) AS size_requested,
       trim_scale(size_executed) AS size_executed, trim_scale(notional_executed) AS notional_executed, status, error,
       duration_minutes, started_at, reduce_only, randomize, raw_payload AS raw
FROM hl.twap_statuses WHERE twap_id = %(twap_id)s ORDER BY time_ns DESC, place DESC, status DESC
