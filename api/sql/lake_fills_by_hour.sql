-- For DuckDB, in lake_fills.sql: fills of hours. Files of earlier versions lack columns, which are NULL.
every_column AS (
    SELECT NULL::TIMESTAMPTZ AS time, NULL::BIGINT AS block_number, NULL::BIGINT AS block_time_ns, NULL::VARCHAR AS coin,
           NULL::VARCHAR AS wallet, NULL::VARCHAR AS side, NULL::DECIMAL(38, 10) AS px, NULL::DECIMAL(38, 10) AS sz,
           NULL::DECIMAL(38, 10) AS start_position, NULL::VARCHAR AS dir, NULL::DECIMAL(38, 10) AS closed_pnl,
           NULL::BLOB AS hash, NULL::BIGINT AS oid, NULL::BIGINT AS counterparty_oid, NULL::BOOLEAN AS crossed,
           NULL::DECIMAL(38, 10) AS fee, NULL::BIGINT AS tid, NULL::BLOB AS cloid, NULL::VARCHAR AS fee_token,
           NULL::VARCHAR AS builder, NULL::DECIMAL(38, 10) AS builder_fee, NULL::DECIMAL(38, 10) AS deployer_fee,
           NULL::DECIMAL(38, 10) AS priority_gas, NULL::BIGINT AS twap_id, NULL::VARCHAR AS liquidated_user,
           NULL::DECIMAL(38, 10) AS liquidation_mark_px, NULL::VARCHAR AS liquidation_method, NULL::VARCHAR AS extra,
           NULL::VARCHAR AS object, NULL::INTEGER AS ordinal
    WHERE false
), fills AS (
    SELECT * FROM every_column
    UNION ALL BY NAME
    SELECT * FROM read_parquet($files, union_by_name = true, hive_partitioning = false)
)
