"""hl.s3_ingest_log gets an index by which the object that was last loaded is found."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    # In the order of api/sql/last_ingested.sql.
    op.execute("""
CREATE INDEX s3_ingest_log_last ON hl.s3_ingest_log (loaded_at DESC NULLS LAST, fetched_at DESC NULLS LAST)
""")


def downgrade() -> None:
    op.execute("DROP INDEX hl.s3_ingest_log_last")
