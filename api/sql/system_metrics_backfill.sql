-- The wallets of the backfill, and the info API's weight of the last minute by the address that calls.
SELECT 'hl_backfill_wallets', ARRAY[known.state], count(wallet)::double precision
FROM unnest(ARRAY['pending', 'started', 'complete', 'truncated', 'failed']) AS known(state)
    LEFT JOIN hl.backfill_progress USING (state)
GROUP BY known.state
UNION ALL
SELECT 'hl_backfill_quarantined_items', ARRAY[]::text[], coalesce(sum(bad), 0)::double precision FROM hl.backfill_progress
UNION ALL
SELECT 'hl_info_weight_last_minute', ARRAY[egress],
       coalesce(sum(weight) FILTER (WHERE counts_until > now()), 0)::double precision
FROM hl.info_calls GROUP BY egress
UNION ALL
SELECT 'hl_info_blocked_seconds', ARRAY[egress], greatest(extract(epoch FROM blocked_until - now()), 0)::double precision
FROM hl.info_egresses
