-- Fills in the order of their key: by wallet, coin, TWAP, or some of them.
SELECT time, block_number, block_time_ns::text AS block_time_ns, coin, wallet, side, px, sz, start_position, dir, closed_pnl,
       hash, oid, counterparty_oid, crossed, fee, tid, cloid, fee_token, builder, builder_fee, deployer_fee, priority_gas,
       f.twap_id::text AS twap_id, liquidated_user, liquidation_mark_px, liquidation_method, extra, object_id
FROM hl.fills f
WHERE (%(wallet)s::text IS NULL OR wallet = %(wallet)s)
  AND (%(coin)s::text IS NULL OR coin = %(coin)s)
  AND (%(twap_id)s::bigint IS NULL OR f.twap_id = %(twap_id)s)
  AND time BETWEEN %(start)s AND %(end)s
  AND (time, coin, wallet, side, coalesce(tid, -1), coalesce(oid, -1), coalesce(counterparty_oid, -1))
    > (%(after_time)s::timestamptz, %(after_coin)s::text, %(after_wallet)s::text, %(after_side)s::text,
       %(after_tid)s::bigint, %(after_oid)s::bigint, %(after_counterparty_oid)s::bigint)
ORDER BY time, coin, wallet, side, coalesce(tid, -1), coalesce(oid, -1), coalesce(counterparty_oid, -1)
LIMIT %(limit)s
