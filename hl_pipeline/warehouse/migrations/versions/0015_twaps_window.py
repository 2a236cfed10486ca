"""hl.twaps gets an index by which a wallet's TWAPs that outlast a moment are found."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    # As api/sql/twaps_listed.sql has both expressions: until when an event is still to come, or a slice came after its end, for
    # ever; and since when.
    op.execute("""
CREATE INDEX twaps_window ON hl.twaps
    (wallet, (CASE WHEN last_slice_at > ended_at THEN 'infinity' ELSE coalesce(ended_at, 'infinity') END),
     (least(begins_at, first_slice_at)))
""")


def downgrade() -> None:
    op.execute("DROP INDEX hl.twaps_window")
