"""The workers of `hl worker` and the runs that they execute, with the time of their last heartbeat."""

from alembic import op

revision = "0019"
down_revision = "0018"

UPGRADE = """
CREATE TABLE hl.workers (
    worker      text PRIMARY KEY CHECK (worker <> ''),
    code        text NOT NULL,
    slots       integer NOT NULL CHECK (slots > 0),
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE hl.workers IS
    'Workers that take runs (`hl worker`), with their last heartbeat. A worker that ends, or is told to, removes its row';
CREATE TABLE hl.worker_runs (
    run_id      text PRIMARY KEY,
    worker      text NOT NULL,
    must_stop   boolean NOT NULL DEFAULT false,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE hl.worker_runs IS
    'Runs in progress on workers, with their last heartbeat. Whoever finds a run dead removes its row; a run without a row stops';
"""

DOWNGRADE = """
DROP TABLE hl.worker_runs;
DROP TABLE hl.workers;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
