-- Fills of a wallet in the members of Hyperliquid's info API, either TWAP slices or all others. A fill without a member that the
-- API always has is left out: its source does not know it. An ORDER BY follows.
SELECT coin, trim_scale(px) AS px, trim_scale(sz) AS sz, side, (extract(epoch FROM time) * 1000)::bigint AS time,
       trim_scale(start_position) AS start_position, dir, trim_scale(closed_pnl) AS closed_pnl, hash, oid, crossed,
       trim_scale(fee) AS fee, tid, fee_token, twap_id, cloid, trim_scale(builder_fee) AS builder_fee, builder,
       trim_scale(deployer_fee) AS deployer_fee, trim_scale(priority_gas) AS priority_gas, liquidated_user,
       trim_scale(liquidation_mark_px) AS liquidation_mark_px, liquidation_method, extra::text AS extra
FROM hl.fills
WHERE wallet = %(wallet)s AND time BETWEEN %(start)s AND %(end)s AND (twap_id IS NOT NULL) = %(of_twaps)s
  AND num_nulls(start_position, dir, closed_pnl, hash, oid, crossed, fee, tid, fee_token) = 0
