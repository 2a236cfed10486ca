"""Days whose fills are to be loaded again."""

from alembic import op

revision = "0007"
down_revision = "0006"

UPGRADE = """
CREATE TABLE hl.dirty_days (
    date      date PRIMARY KEY,
    reason    text NOT NULL CHECK (reason <> ''),
    noted_at  timestamptz NOT NULL
);
COMMENT ON TABLE hl.dirty_days IS 'Days whose fills in hl.fills are older than what the lake has';
"""

DOWNGRADE = "DROP TABLE hl.dirty_days"


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
