"""Which hour of which dataset is there, and which holes people have acknowledged."""

from alembic import op

revision = "0005"
down_revision = "0004"

UPGRADE = """
ALTER TABLE hl.fills_days ADD COLUMN edges text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN hl.fills_days.edges IS 'The edges of the day that no object crosses, in words';

CREATE TABLE hl.acknowledged (
    source       text NOT NULL CHECK (source IN ('node_trades', 'node_fills', 'node_fills_by_block', 'twap_statuses')),
    object_date  date NOT NULL,
    object_hour  smallint CHECK (object_hour BETWEEN 0 AND 23),
    note         text NOT NULL CHECK (note <> ''),
    at           timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (source, object_date, object_hour)
);
COMMENT ON TABLE hl.acknowledged IS 'Holes that people know of and can do nothing about; object_hour NULL: all of the day';

CREATE TABLE hl.coverage (
    source          text NOT NULL CHECK (source IN ('node_trades', 'node_fills', 'node_fills_by_block', 'twap_statuses')),
    object_date     date NOT NULL,
    object_hour     smallint CHECK (object_hour BETWEEN 0 AND 23),
    expected        boolean NOT NULL,
    found           text NOT NULL
                        CHECK (found IN ('present', 'unprovable', 'not due', 'missing', 'failed', 'blocks missing')),
    is_hole         boolean NOT NULL GENERATED ALWAYS AS
                        (found IN ('failed', 'blocks missing') OR found = 'missing' AND expected) STORED,
    note            text,
    state           text NOT NULL GENERATED ALWAYS AS
                        (CASE WHEN note IS NOT NULL
                                   AND (found IN ('failed', 'blocks missing') OR found = 'missing' AND expected)
                              THEN 'acknowledged' ELSE found END) STORED,
    why             text NOT NULL,
    object_key      text,
    etag            text,
    rows            bigint,
    bad_lines       bigint,
    first_block     bigint,
    last_block      bigint,
    missing_ranges  int8multirange NOT NULL,
    missing_blocks  bigint NOT NULL,
    fetched_at      timestamptz,
    judged_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (source, object_date, object_hour)
);
CREATE INDEX coverage_date ON hl.coverage (object_date);
CREATE INDEX coverage_holes ON hl.coverage (object_date) WHERE is_hole;
COMMENT ON TABLE hl.coverage IS
    'One row per dataset, day and hour of the bucket: whether its object is there, and what lacks. object_hour NULL: of no hour';
COMMENT ON COLUMN hl.coverage.expected IS 'Whether it is a hole when the object is not there';
COMMENT ON COLUMN hl.coverage.state IS 'As found, or acknowledged';
COMMENT ON COLUMN hl.coverage.missing_ranges IS
    'Block numbers missing within the object, and between it and the one of the hour before';
"""

DOWNGRADE = """
DROP TABLE hl.coverage, hl.acknowledged;
ALTER TABLE hl.fills_days DROP COLUMN edges;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
