"""Fills by day, the ledger of objects, and which of them each day holds."""

from alembic import op

revision = "0001"
down_revision = None

UPGRADE = """
CREATE TABLE hl.s3_ingest_log (
    object_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    object_key      text NOT NULL UNIQUE,
    source          text NOT NULL,
    object_date     date NOT NULL,
    object_hour     smallint NOT NULL CHECK (object_hour BETWEEN 0 AND 23),
    etag            text,
    size_bytes      bigint,
    parser          integer,
    rows            bigint,
    bad_lines       bigint,
    first_block     bigint,
    last_block      bigint,
    missing_blocks  bigint,
    fetched_at      timestamptz,
    loaded_at       timestamptz,
    error           text,
    error_at        timestamptz
);
COMMENT ON TABLE hl.s3_ingest_log IS
    'One row per source object: what it held, when it was fetched and last loaded, and an error until it is mended';
COMMENT ON COLUMN hl.s3_ingest_log.bad_lines IS 'Lines or events in quarantine, beside the object''s file in the lake';
COMMENT ON COLUMN hl.s3_ingest_log.missing_blocks IS 'Block numbers missing between first_block and last_block';

CREATE TABLE hl.fills_days (
    date             date PRIMARY KEY,
    rows             bigint NOT NULL,
    duplicates       bigint NOT NULL,
    loaded_at        timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE hl.fills_days IS
    'The days (UTC, of the event) in hl.fills; duplicates: rows of the lake that repeated a fill';

CREATE TABLE hl.fills_day_objects (
    date       date NOT NULL REFERENCES hl.fills_days ON DELETE CASCADE,
    object_id  integer NOT NULL REFERENCES hl.s3_ingest_log,
    etag       text NOT NULL,
    rows       bigint NOT NULL,
    PRIMARY KEY (date, object_id)
);
COMMENT ON TABLE hl.fills_day_objects IS 'Which objects, as of which ETag, gave a day its rows';

CREATE TABLE hl.fills (
    time                 timestamptz NOT NULL,
    block_number         bigint,
    block_time_ns        bigint,
    oid                  bigint,
    tid                  bigint,
    twap_id              bigint,
    object_id            integer NOT NULL,
    crossed              boolean,
    side                 text NOT NULL,
    coin                 text NOT NULL,
    wallet               text NOT NULL,
    px                   numeric NOT NULL,
    sz                   numeric NOT NULL,
    start_position       numeric,
    closed_pnl           numeric,
    fee                  numeric,
    fee_token            text,
    dir                  text,
    hash                 bytea,
    cloid                bytea,
    builder              text,
    builder_fee          numeric,
    deployer_fee         numeric,
    priority_gas         numeric,
    liquidated_user      text,
    liquidation_mark_px  numeric,
    liquidation_method   text,
    -- Not jsonb: that refuses some legal JSON texts (a NUL, half a surrogate pair).
    extra                json
) PARTITION BY RANGE (time);
CREATE INDEX fills_wallet_time ON hl.fills (wallet, time);
CREATE INDEX fills_twap_id ON hl.fills (twap_id) WHERE twap_id IS NOT NULL;
COMMENT ON TABLE hl.fills IS
    'Every fill once: a row per leg of a trade, a table per day of the event (UTC). A fill is (time, coin, wallet, side, tid)';
COMMENT ON COLUMN hl.fills.time IS 'When it happened (UTC, the source''s milliseconds)';
COMMENT ON COLUMN hl.fills.block_time_ns IS 'Time of its block, nanoseconds since 1970 UTC';
COMMENT ON COLUMN hl.fills.object_id IS 'The object it came from: hl.s3_ingest_log';
COMMENT ON COLUMN hl.fills.crossed IS 'True: the taker';
COMMENT ON COLUMN hl.fills.side IS 'B: bought, A: sold';
COMMENT ON COLUMN hl.fills.fee IS 'In fee_token, negative for a rebate; builder_fee and deployer_fee are within it';
COMMENT ON COLUMN hl.fills.priority_gas IS 'In HYPE, apart from fee';
COMMENT ON COLUMN hl.fills.twap_id IS 'On the leg of the TWAP''s owner only';
COMMENT ON COLUMN hl.fills.extra IS
    'What the columns cannot hold: unknown fields; under _missing the regular fields that were not there';

CREATE VIEW hl.fills_readable AS
SELECT time, coin, wallet, side, trim_scale(px) AS px, trim_scale(sz) AS sz, dir, crossed,
       trim_scale(start_position) AS start_position, trim_scale(closed_pnl) AS closed_pnl,
       trim_scale(fee) AS fee, fee_token, trim_scale(builder_fee) AS builder_fee, builder,
       trim_scale(deployer_fee) AS deployer_fee, trim_scale(priority_gas) AS priority_gas,
       tid, oid, twap_id, '0x' || encode(hash, 'hex') AS hash, '0x' || encode(cloid, 'hex') AS cloid,
       liquidated_user, trim_scale(liquidation_mark_px) AS liquidation_mark_px, liquidation_method,
       block_number, block_time_ns, object_key, extra
FROM hl.fills JOIN hl.s3_ingest_log USING (object_id);
COMMENT ON VIEW hl.fills_readable IS
    'hl.fills for people: hash and cloid as 0x…, numbers without trailing zeros, the object by its key';
"""

DOWNGRADE = """
DROP VIEW hl.fills_readable;
DROP TABLE hl.fills, hl.fills_day_objects, hl.fills_days, hl.s3_ingest_log;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
