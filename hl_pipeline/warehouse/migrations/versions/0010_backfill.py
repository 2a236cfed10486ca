"""How far the info API was asked for each wallet, and the pages that are on their way into the lake."""

from alembic import op

revision = "0010"
down_revision = "0009"

UPGRADE = """
CREATE FUNCTION hl.shard_of(wallet text) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN get_byte(sha256(convert_to(lower(wallet), 'UTF8')), 0)::smallint;
COMMENT ON FUNCTION hl.shard_of IS
    'The shard of a wallet, 0 to 255, for ever: the first byte of sha256 of its address in lower case';

CREATE TABLE hl.backfill_progress (
    wallet         text PRIMARY KEY CHECK (wallet ~ '^0x[0-9a-f]{40}$'),
    shard          smallint NOT NULL GENERATED ALWAYS AS (hl.shard_of(wallet)) STORED,
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'started', 'complete', 'truncated', 'failed')),
    window_start   timestamptz,
    window_end     timestamptz,
    fills_next     timestamptz,
    slices_next    timestamptz,
    fills_walked   boolean NOT NULL DEFAULT false,
    slices_walked  boolean NOT NULL DEFAULT false,
    oldest         timestamptz,
    newest         timestamptz,
    fills          bigint NOT NULL DEFAULT 0,
    bad            bigint NOT NULL DEFAULT 0,
    crowded        bigint[] NOT NULL DEFAULT '{}',
    requests       bigint NOT NULL DEFAULT 0,
    weight         bigint NOT NULL DEFAULT 0,
    reason         text,
    error          text,
    started_at     timestamptz,
    ended_at       timestamptz,
    statuses       bigint NOT NULL DEFAULT 0,
    history_error  text,
    history_at     timestamptz
);
CREATE INDEX backfill_progress_shard ON hl.backfill_progress (shard, state);
COMMENT ON TABLE hl.backfill_progress IS
    'One row per wallet that the info API is asked for: how far, and whether everything of the window came';
COMMENT ON COLUMN hl.backfill_progress.oldest IS 'Of a truncated wallet nothing before it is proven to be all';

CREATE TABLE hl.backfill_pages (
    wallet  text NOT NULL REFERENCES hl.backfill_progress ON DELETE CASCADE,
    kind    text NOT NULL CHECK (kind IN ('fills', 'twap_slices')),
    page    integer NOT NULL,
    rows    integer NOT NULL,
    fills   bytea NOT NULL,
    PRIMARY KEY (wallet, kind, page)
);
ALTER TABLE hl.backfill_pages ALTER COLUMN fills SET STORAGE EXTERNAL;
COMMENT ON TABLE hl.backfill_pages IS
    'Pages of the info API that came (Parquet), until their shard is written to the lake; of a wallet in work the last ones stay';

CREATE TABLE hl.backfill_bad (
    wallet  text NOT NULL REFERENCES hl.backfill_progress ON DELETE CASCADE,
    kind    text NOT NULL CHECK (kind IN ('fills', 'twap_slices', 'twap_history')),
    reason  text NOT NULL,
    item    bytea NOT NULL,
    digest  bytea NOT NULL GENERATED ALWAYS AS (sha256(item)) STORED,
    PRIMARY KEY (wallet, kind, digest)
);
COMMENT ON TABLE hl.backfill_bad IS 'Items of the info API that could not be taken, as JSON, and why';

COMMENT ON COLUMN hl.s3_ingest_log.object_id IS
    'Source (1 node_trades, 2 node_fills, 3 node_fills_by_block) in millions, and the hours since 2023; of the info API four '
    'million and the days since 2023 times 256 and the shard: the same wherever made';
"""

# What the API gave of a day stays in the lake; the tables before knew no such object.
DOWNGRADE = """
DELETE FROM hl.fills WHERE object_id >= 4000000;
DELETE FROM hl.fills_day_objects WHERE object_id >= 4000000;
DELETE FROM hl.s3_ingest_log WHERE source = 'api_fills';
DROP TABLE hl.backfill_bad, hl.backfill_pages, hl.backfill_progress;
DROP FUNCTION hl.shard_of;
COMMENT ON COLUMN hl.s3_ingest_log.object_id IS
    'Of objects of fills: source (1 node_trades, 2 node_fills, 3 node_fills_by_block) in millions, and the hours since 2023';
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
