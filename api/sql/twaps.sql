-- Follows twaps_listed.sql and `analytics` (twap_analytics.sql for the same TWAPs), for JSON. The columns of hl.twaps follow `raw`.
SELECT s.time_ns, s.twap_id::text AS twap_id, s.wallet, s.asset, s.side, s.status, s.error, s.duration_minutes, s.started_at,
       s.latest_ts, trim_scale(s.size_requested) AS size_requested, trim_scale(s.size_executed) AS size_executed,
       trim_scale(s.notional_executed) AS notional_executed, s.reduce_only, s.randomize, s.raw, a.*
FROM shown s LEFT JOIN analytics a ON a.twap_id = s.twap_id ORDER BY s.time_ns DESC, s.twap_id DESC
