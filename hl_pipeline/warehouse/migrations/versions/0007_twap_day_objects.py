"""Which objects, as of which ETag, a day of TWAP statuses was made of."""

from alembic import op

revision = "0007"
down_revision = "0006"

UPGRADE = """
CREATE TABLE hl.twap_day_objects (
    date        date NOT NULL REFERENCES hl.twap_days ON DELETE CASCADE,
    object_key  text NOT NULL,
    etag        text NOT NULL,
    PRIMARY KEY (date, object_key)
);
COMMENT ON TABLE hl.twap_day_objects IS 'Which objects, as of which ETag, may have given a day its events: by the times in them';
-- Whatever days of before were made of: the ledger's objects that reach into them.
INSERT INTO hl.twap_day_objects
SELECT d.date, l.object_key, l.etag FROM hl.twap_days d JOIN hl.s3_ingest_log l
    ON l.source = 'twap_statuses' AND l.fetched_at < d.loaded_at AND l.etag IS NOT NULL
    AND l.first_time < (d.date + 1)::timestamp AT TIME ZONE 'UTC' AND l.last_time >= d.date::timestamp AT TIME ZONE 'UTC';
"""

DOWNGRADE = "DROP TABLE hl.twap_day_objects"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
