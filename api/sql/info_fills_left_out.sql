-- How many fills info_fills.sql leaves out in a range.
SELECT count(*) FROM hl.fills
WHERE wallet = %(wallet)s AND time BETWEEN %(start)s AND %(end)s AND (twap_id IS NOT NULL) = %(of_twaps)s
  AND num_nulls(start_position, dir, closed_pnl, hash, oid, crossed, fee, tid, fee_token) > 0
