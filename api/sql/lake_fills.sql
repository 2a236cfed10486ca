-- For DuckDB: fills of Parquet files as fills.sql returns them. The engine defines the source, fills: for hours, by lake_fills_by_hour.sql.
-- DuckDB compares strings by their bytes, as COLLATE "C" does.
WITH {source}), found AS (
    -- An object's number follows from its hour, or from its day and shard: its dataset's millions plus the hours since 2023.
    SELECT *, epoch_us(time) AS time_us,
           CASE WHEN object LIKE 'api_fills/%'
                THEN 4000000 + 256 * date_diff('day', DATE '2023-01-01', regexp_extract(object, 'date=([0-9-]{10})/', 1)::DATE)
                     + ('0x' || regexp_extract(object, 'shard=([0-9a-f]{2})', 1))::INTEGER
                ELSE CASE split_part(object, '/', 1) WHEN 'node_trades' THEN 1000000 WHEN 'node_fills' THEN 2000000
                                                     WHEN 'node_fills_by_block' THEN 3000000 END
                     + 24 * date_diff('day', DATE '2023-01-01',
                                      strptime(regexp_extract(object, '/hourly/([0-9]{8})/', 1), '%Y%m%d')::DATE)
                     + regexp_extract(object, '/([0-9]{1,2})[^/]*$', 1)::INTEGER
           END::INTEGER AS object_id
    FROM fills
    WHERE time BETWEEN $start AND $end {filters}
), shown AS (
    SELECT * FROM found
    ORDER BY time_us, block_number NULLS LAST, object_id NULLS LAST, ordinal NULLS LAST, coin, wallet, side, tid NULLS LAST,
             oid NULLS LAST, counterparty_oid NULLS LAST
    LIMIT $limit OFFSET $given
)
SELECT CASE WHEN time_us % 1000000 = 0 THEN strftime(make_timestamp(time_us), '%Y-%m-%dT%H:%M:%SZ')
            ELSE strftime(make_timestamp(time_us), '%Y-%m-%dT%H:%M:%S.%gZ') END AS time,
       block_number, block_time_ns::VARCHAR AS block_time_ns, coin, wallet, side, {px}, {sz}, {start_position}, dir,
       {closed_pnl}, '0x' || lower(hex(hash)) AS hash, oid, counterparty_oid, crossed, {fee}, tid,
       '0x' || lower(hex(cloid)) AS cloid, fee_token, builder, {builder_fee}, {deployer_fee}, {priority_gas},
       twap_id::VARCHAR AS twap_id, liquidated_user, {liquidation_mark_px}, liquidation_method, extra, object_id, ordinal
FROM shown
ORDER BY time_us, block_number NULLS LAST, object_id NULLS LAST, ordinal NULLS LAST, coin, wallet, side, tid NULLS LAST,
         oid NULLS LAST, counterparty_oid NULLS LAST
