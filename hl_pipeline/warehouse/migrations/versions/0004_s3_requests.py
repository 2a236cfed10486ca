"""The ledger of money: every request to a bucket whose requester pays."""

from alembic import op

revision = "0004"
down_revision = "0003"

UPGRADE = """
CREATE TABLE hl.s3_requests (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    bucket   text NOT NULL,
    method   text NOT NULL CHECK (method IN ('LIST', 'GET')),
    key      text NOT NULL,
    status   smallint,
    bytes    bigint NOT NULL CHECK (bytes >= 0),
    dollars  numeric NOT NULL CHECK (dollars >= 0),
    error    text,
    seconds  double precision,
    run_id   text
);
CREATE INDEX s3_requests_at ON hl.s3_requests (at);
COMMENT ON TABLE hl.s3_requests IS
    'Every request to a bucket whose requester pays, retries and broken ones too; written before it with what it can cost';
COMMENT ON COLUMN hl.s3_requests.status IS 'Of HTTP; NULL: no answer came';
COMMENT ON COLUMN hl.s3_requests.bytes IS 'Of the body, as received; while error is ''not finished'', as expected';
"""

DOWNGRADE = "DROP TABLE hl.s3_requests"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
