"""The info API's budget of weight, shared by all who call from one address."""

from alembic import op

revision = "0009"
down_revision = "0008"

UPGRADE = """
CREATE TABLE hl.info_egresses (
    egress         text PRIMARY KEY,
    blocked_until  timestamptz NOT NULL
);
COMMENT ON TABLE hl.info_egresses IS
    'Addresses from which the info API is called (HL_EGRESS) and that it has told to wait: nobody calls before that moment';

CREATE TABLE hl.info_calls (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    egress        text NOT NULL,
    weight        integer NOT NULL CHECK (weight >= 0),
    counts_until  timestamptz NOT NULL
);
CREATE INDEX info_calls_egress ON hl.info_calls (egress, counts_until);
COMMENT ON TABLE hl.info_calls IS
    'Calls to the info API that are under way (with what they can weigh) or were made within the last minute';
"""

DOWNGRADE = "DROP TABLE hl.info_calls, hl.info_egresses"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
