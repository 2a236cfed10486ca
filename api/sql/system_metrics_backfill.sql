-- The wallets of the backfill, and the info API's weight of the last minute by the address that calls.
WITH wallets AS (SELECT state, count(*) AS count, sum(bad) AS bad FROM hl.backfill_progress GROUP BY state)
SELECT 'hl_backfill_wallets', ARRAY[state], coalesce(count, 0)::double precision
FROM unnest(ARRAY['pending', 'started', 'complete', 'truncated', 'failed']) AS state LEFT JOIN wallets USING (state)
UNION ALL
SELECT 'hl_backfill_quarantined_items', ARRAY[]::text[], coalesce(sum(bad), 0)::double precision FROM wallets
UNION ALL
SELECT 'hl_info_weight_last_minute', ARRAY[egress],
       coalesce(sum(weight) FILTER (WHERE counts_until > now()), 0)::double precision
FROM hl.info_calls GROUP BY egress
UNION ALL
SELECT 'hl_info_blocked_seconds', ARRAY[egress], greatest(extract(epoch FROM blocked_until - now()), 0)::double precision
FROM hl.info_egresses
