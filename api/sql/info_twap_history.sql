-- The newest events of a wallet's TWAPs, with the members of Hyperliquid's twapHistory.
SELECT time_ns / 1000000000 AS time, coin, wallet, side, trim_scale(size_requested) AS sz, trim_scale(size_executed) AS executed_sz,
       trim_scale(notional_executed) AS executed_ntl, duration_minutes, reduce_only, randomize,
       (extract(epoch FROM started_at) * 1000)::bigint AS placed, raw_payload #> '{state,trigger}' AS trigger,
       raw_payload #> '{state,stopPx}' AS stop_px, status, error, twap_id
FROM hl.twap_statuses
WHERE wallet = %(wallet)s
ORDER BY time_ns DESC, twap_id DESC, place DESC, status DESC
LIMIT %(limit)s
