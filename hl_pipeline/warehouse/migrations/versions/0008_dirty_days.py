"""Days whose fills are to be loaded again, and objects that are to be fetched again."""

from alembic import op

revision = "0008"
down_revision = "0007"

UPGRADE = """
CREATE TABLE hl.dirty_days (
    date      date PRIMARY KEY,
    reason    text NOT NULL CHECK (reason <> ''),
    noted_at  timestamptz NOT NULL
);
COMMENT ON TABLE hl.dirty_days IS 'Days whose fills in hl.fills are older than what the lake has; `hl ingest --dirty` loads them';

ALTER TABLE hl.s3_ingest_log ADD COLUMN reset_of timestamptz;
CREATE INDEX s3_ingest_log_reset ON hl.s3_ingest_log (source, object_key) WHERE reset_of IS NOT NULL;
COMMENT ON COLUMN hl.s3_ingest_log.reset_of IS
    'fetched_at of the form that is to be replaced: the next run that wants the object downloads it again. NULL: it is kept';
"""

DOWNGRADE = """
ALTER TABLE hl.s3_ingest_log DROP COLUMN reset_of;
DROP TABLE hl.dirty_days;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
