"""hl.twaps: a TWAP that has not begun has no begins_at, and so no figures of the market meanwhile."""

from alembic import op

revision = "0012"
down_revision = "0010"

UPGRADE = """
ALTER TABLE hl.twaps
    ALTER COLUMN begins_at DROP NOT NULL,
    ALTER COLUMN whole_minutes DROP NOT NULL,
    ALTER COLUMN own_volume DROP NOT NULL,
    ALTER COLUMN own_notional DROP NOT NULL;
COMMENT ON COLUMN hl.twaps.begins_at IS 'NULL: it has not begun, or no source says when';
"""

# As the earlier version has it: it began when it was placed.
DOWNGRADE = """
UPDATE hl.twaps SET begins_at = coalesce(started_at, seen_from + interval '60 minutes'), whole_minutes = 0, own_volume = 0,
    own_notional = 0
WHERE begins_at IS NULL;
COMMENT ON COLUMN hl.twaps.begins_at IS NULL;
ALTER TABLE hl.twaps
    ALTER COLUMN begins_at SET NOT NULL,
    ALTER COLUMN whole_minutes SET NOT NULL,
    ALTER COLUMN own_volume SET NOT NULL,
    ALTER COLUMN own_notional SET NOT NULL;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
