-- After twaps_listed.sql: its TWAPs for JSON.
SELECT time_ns, twap_id::text AS twap_id, wallet, asset, side, status, error, duration_minutes, started_at, latest_ts,
       size_requested, size_executed, notional_executed, reduce_only, randomize, raw
FROM shown ORDER BY shown.time_ns DESC, shown.twap_id DESC
