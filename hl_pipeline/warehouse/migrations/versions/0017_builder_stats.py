"""Statistics per builder: hl.builder_stats; an index by which the TWAPs of a range of days are found."""

from alembic import op

revision = "0017"
down_revision = "0016"

UPGRADE = """
CREATE TABLE hl.builder_stats (
    date             date NOT NULL,
    builder          text,
    coin             text NOT NULL,
    fills            bigint NOT NULL,
    non_market_rows  bigint NOT NULL,
    fills_with_fee   bigint NOT NULL,
    notional         numeric,
    fees_in_quote    numeric,
    wallets          bigint NOT NULL,
    fees             json,
    is_complete      boolean,
    UNIQUE NULLS NOT DISTINCT (date, builder, coin)
);
CREATE INDEX builder_stats_coin ON hl.builder_stats (coin, date);
COMMENT ON TABLE hl.builder_stats IS
    'One row per day (UTC), builder and coin; builder NULL: only its fee is known; a sum over something unknown is NULL';
ALTER TABLE hl.fills_days ADD COLUMN builder_stats_at timestamptz;
CREATE INDEX twaps_begins_at ON hl.twaps (begins_at);
"""
DOWNGRADE = """
DROP INDEX hl.twaps_begins_at;
ALTER TABLE hl.fills_days DROP COLUMN builder_stats_at;
DROP TABLE hl.builder_stats;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
