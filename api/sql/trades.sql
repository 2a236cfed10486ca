-- Fills of several wallets, in the order of fills.sql. Each wallet's first fills come from its index, and are merged then.
SELECT time, block_number, block_time_ns::text AS block_time_ns, coin, wallet, side, trim_scale(px) AS px,
       trim_scale(sz) AS sz, trim_scale(start_position) AS start_position, dir, trim_scale(closed_pnl) AS closed_pnl, hash, oid,
       counterparty_oid, crossed, trim_scale(fee) AS fee, tid, cloid, fee_token, builder, trim_scale(builder_fee) AS builder_fee,
       trim_scale(deployer_fee) AS deployer_fee, trim_scale(priority_gas) AS priority_gas, f.twap_id::text AS twap_id,
       liquidated_user, trim_scale(liquidation_mark_px) AS liquidation_mark_px, liquidation_method, extra, object_id, ordinal
FROM unnest(%(wallets)s::text[]) AS given (address), LATERAL (
    SELECT * FROM hl.fills
    WHERE wallet = given.address AND time BETWEEN %(start)s AND %(end)s
      AND (%(coin)s::text IS NULL OR coin = %(coin)s)
      AND (%(twap_id)s::bigint IS NULL OR twap_id = %(twap_id)s)
    ORDER BY time, block_number, object_id, ordinal,
             coin COLLATE "C", wallet COLLATE "C", side COLLATE "C", tid, oid, counterparty_oid
    LIMIT %(limit)s + %(given)s) f
ORDER BY time, block_number, object_id, ordinal,
         coin COLLATE "C", wallet COLLATE "C", side COLLATE "C", tid, oid, counterparty_oid
LIMIT %(limit)s OFFSET %(given)s
