"""What a day of fills holds hour by hour, so that new hours can be added to it."""

from alembic import op

revision = "0006"
down_revision = "0005"

UPGRADE = """
ALTER TABLE hl.fills_day_objects ADD COLUMN parser integer;
COMMENT ON COLUMN hl.fills_day_objects.parser IS 'Version of the parser that had read it then; NULL: not known';

CREATE TABLE hl.fills_hours (
    date         date NOT NULL REFERENCES hl.fills_days ON DELETE CASCADE,
    hour         smallint NOT NULL CHECK (hour BETWEEN 0 AND 23),
    rows         bigint NOT NULL,
    duplicates   bigint NOT NULL,
    conflicts    bigint NOT NULL,
    loaded_at    timestamptz NOT NULL DEFAULT now(),
    repeated     bigint,
    trades       bigint,
    single_legs  bigint,
    crowded      bigint,
    proven_at    timestamptz,
    candles_at   timestamptz,
    PRIMARY KEY (date, hour)
);
COMMENT ON TABLE hl.fills_hours IS
    'The hours (UTC, of the event) of each day in hl.fills that have fills; none of days loaded before this table was there';
COMMENT ON COLUMN hl.fills_hours.proven_at IS 'When lake and hl.fills were found to have the same rows of it; NULL: not yet';
"""

DOWNGRADE = """
DROP TABLE hl.fills_hours;
ALTER TABLE hl.fills_day_objects DROP COLUMN parser;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
