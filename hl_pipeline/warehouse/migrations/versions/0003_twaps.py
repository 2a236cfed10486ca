"""TWAPs: their statuses, one row per TWAP, the days that are there; objects without an hour; a role that only reads."""

from alembic import op

revision = "0003"
down_revision = "0002"

UPGRADE = """
ALTER TABLE hl.fills_day_objects DROP CONSTRAINT fills_day_objects_object_id_fkey;
ALTER TABLE hl.s3_ingest_log
    DROP CONSTRAINT s3_ingest_log_pkey,
    DROP CONSTRAINT s3_ingest_log_object_key_key,
    ALTER COLUMN object_id DROP NOT NULL,
    ALTER COLUMN object_hour DROP NOT NULL,
    ADD COLUMN first_time timestamptz,
    ADD COLUMN last_time timestamptz,
    ADD PRIMARY KEY (source, object_key),
    ADD UNIQUE (object_id);
ALTER TABLE hl.fills_day_objects ADD FOREIGN KEY (object_id) REFERENCES hl.s3_ingest_log (object_id);
COMMENT ON COLUMN hl.s3_ingest_log.first_time IS 'The first moment that the object tells of; last_time: the last';
COMMENT ON COLUMN hl.s3_ingest_log.object_id IS
    'Of objects of fills: source (1 node_trades, 2 node_fills, 3 node_fills_by_block) in millions, and the hours since 2023';

ALTER TABLE hl.fills_days ADD COLUMN twaps_at timestamptz;
COMMENT ON COLUMN hl.fills_days.twaps_at IS 'When the TWAPs of the day were made of these fills; NULL: not yet';

CREATE TABLE hl.twap_days (
    date         date PRIMARY KEY,
    state        text NOT NULL CHECK (state IN ('unprovable', 'pending', 'incomplete', 'no source')),
    explanation  text NOT NULL,
    objects      bigint NOT NULL,
    rows         bigint NOT NULL,
    duplicates   bigint NOT NULL,
    conflicts    bigint NOT NULL,
    loaded_at    timestamptz NOT NULL DEFAULT now(),
    twaps_at     timestamptz
);
COMMENT ON TABLE hl.twap_days IS 'The days (UTC, of the event) in hl.twap_statuses, and how each was judged';

CREATE TABLE hl.twap_statuses (
    twap_id            bigint NOT NULL,
    time               timestamptz NOT NULL,
    status             text NOT NULL,
    error              text,
    wallet             text NOT NULL,
    coin               text NOT NULL,
    side               text NOT NULL CHECK (side IN ('A', 'B')),
    size_requested     numeric,
    size_executed      numeric,
    notional_executed  numeric,
    duration_minutes   integer,
    reduce_only        boolean,
    randomize          boolean,
    started_at         timestamptz,
    object             text NOT NULL,
    raw_payload        jsonb NOT NULL,
    inserted_at        timestamptz NOT NULL DEFAULT now(),
    time_ns            bigint NOT NULL,
    date               date NOT NULL,
    place              smallint NOT NULL GENERATED ALWAYS AS
                           (CASE status WHEN 'waitingForTrigger' THEN 0 WHEN 'activated' THEN 1 ELSE 2 END) STORED,
    PRIMARY KEY (twap_id, time_ns, place, status)
);
CREATE INDEX twap_statuses_wallet ON hl.twap_statuses (wallet, time_ns, twap_id);
CREATE INDEX twap_statuses_wallet_coin ON hl.twap_statuses (wallet, coin, time_ns, twap_id);
CREATE INDEX twap_statuses_date ON hl.twap_statuses (date);
COMMENT ON TABLE hl.twap_statuses IS 'Every event of every TWAP, once: by (twap_id, status, time)';

CREATE TABLE hl.twap_slice_days (
    twap_id  bigint NOT NULL,
    date     date NOT NULL,
    PRIMARY KEY (twap_id, date)
);
CREATE INDEX twap_slice_days_date ON hl.twap_slice_days (date);
COMMENT ON TABLE hl.twap_slice_days IS 'On which days (UTC) the lake has slices of a TWAP';

CREATE TABLE hl.twaps (
    twap_id                   bigint PRIMARY KEY,
    wallet                    text NOT NULL,
    coin                      text NOT NULL,
    side                      text NOT NULL,
    status                    text,
    error                     text,
    verdict                   text NOT NULL,
    started_at                timestamptz,
    begins_at                 timestamptz NOT NULL,
    planned_end               timestamptz,
    ended_at                  timestamptz,
    duration_minutes          integer,
    reduce_only               boolean,
    randomize                 boolean,
    statuses                  bigint NOT NULL,
    size_requested            numeric,
    size_reported             numeric,
    notional_reported         numeric,
    fills                     bigint NOT NULL,
    slices                    bigint NOT NULL,
    slices_due                bigint,
    size_observed             numeric NOT NULL,
    notional_observed         numeric NOT NULL,
    first_slice_at            timestamptz,
    last_slice_at             timestamptz,
    vwap                      numeric,
    whole_minutes             bigint NOT NULL,
    market_volume             numeric,
    market_notional           numeric,
    market_vwap               numeric,
    own_volume                numeric NOT NULL,
    own_notional              numeric NOT NULL,
    market_vwap_without_own   numeric,
    participation             numeric,
    arrival_px                numeric,
    slippage_bps              numeric,
    slippage_without_own_bps  numeric,
    slippage_arrival_bps      numeric,
    schedule_deviation        numeric,
    maker_share               numeric,
    fees                      json,
    closed_pnl                numeric,
    is_complete               boolean,
    seen_from                 timestamptz NOT NULL,
    seen_to                   timestamptz NOT NULL
);
CREATE INDEX twaps_wallet ON hl.twaps (wallet, begins_at);
CREATE INDEX twaps_coin ON hl.twaps (coin, begins_at);
CREATE INDEX twaps_seen_to ON hl.twaps (seen_to);
COMMENT ON TABLE hl.twaps IS
    'One row per TWAP: what was asked for, what was reported, what its slices show, and the market meanwhile (docs/twaps.md)';
"""

RATIO = """
CREATE FUNCTION hl.ratio(a numeric, b numeric, digits integer) RETURNS numeric LANGUAGE sql IMMUTABLE AS $$
    -- The zeros: a quotient has as many decimals as what is divided, at least.
    SELECT round((a + 0.000000000000000000000000000000) / nullif(b, 0), digits)
$$;

CREATE FUNCTION hl.has_bad_lines(day date) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM hl.s3_ingest_log l
        WHERE l.bad_lines > 0 AND l.object_id IS NOT NULL AND (
            l.object_date = day OR (l.object_date = day + 1 AND l.object_hour = 0)
            OR l.object_id IN (SELECT o.object_id FROM hl.fills_day_objects o WHERE o.date = day)))
$$;
COMMENT ON FUNCTION hl.has_bad_lines IS
    'Whether an object that gave the day (UTC) its fills, or should have, has lines in quarantine';
COMMENT ON FUNCTION hl.ratio IS 'a / b rounded to so many digits, NULL where b is 0';
"""

# Where the user may make roles (a role belongs to all databases of the server, so another may have made it just now).
READER = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hl_reader') THEN
        BEGIN
            CREATE ROLE hl_reader NOLOGIN;
        EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hl_reader') THEN
        BEGIN
            EXECUTE format('GRANT hl_reader TO %I', current_user);
        EXCEPTION WHEN insufficient_privilege OR unique_violation THEN NULL;
        END;
        GRANT USAGE ON SCHEMA hl TO hl_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA hl TO hl_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA hl GRANT SELECT ON TABLES TO hl_reader;
    END IF;
END $$;
"""

DOWNGRADE = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hl_reader') THEN
        ALTER DEFAULT PRIVILEGES IN SCHEMA hl REVOKE SELECT ON TABLES FROM hl_reader;
        REVOKE ALL ON ALL TABLES IN SCHEMA hl FROM hl_reader;
        REVOKE ALL ON SCHEMA hl FROM hl_reader;
    END IF;
END $$;
DROP FUNCTION hl.ratio, hl.has_bad_lines;
DROP TABLE hl.twaps, hl.twap_slice_days, hl.twap_statuses, hl.twap_days;
ALTER TABLE hl.fills_days DROP COLUMN twaps_at;
DELETE FROM hl.s3_ingest_log WHERE object_id IS NULL;
ALTER TABLE hl.fills_day_objects DROP CONSTRAINT fills_day_objects_object_id_fkey;
ALTER TABLE hl.s3_ingest_log
    DROP CONSTRAINT s3_ingest_log_pkey,
    DROP CONSTRAINT s3_ingest_log_object_id_key,
    ALTER COLUMN object_hour SET NOT NULL,
    DROP COLUMN first_time,
    DROP COLUMN last_time,
    ADD PRIMARY KEY (object_id),
    ADD UNIQUE (object_key);
ALTER TABLE hl.fills_day_objects ADD FOREIGN KEY (object_id) REFERENCES hl.s3_ingest_log;
COMMENT ON COLUMN hl.s3_ingest_log.object_id IS
    'Source (1 node_trades, 2 node_fills, 3 node_fills_by_block) in millions, and the hours since 2023: the same wherever made';
"""


def upgrade() -> None:
    for text in (RATIO, UPGRADE, READER):
        op.execute(text)


def downgrade() -> None:
    op.execute(DOWNGRADE)
