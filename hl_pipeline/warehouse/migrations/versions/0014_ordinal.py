"""hl.fills and hl.fills_readable get ordinal, by which fills of one millisecond have the order of their source."""

from alembic import op

revision = "0014"
down_revision = "0013"

READABLE = """
VIEW hl.fills_readable AS
SELECT time, coin, wallet, side, trim_scale(px) AS px, trim_scale(sz) AS sz, dir, crossed,
       trim_scale(start_position) AS start_position, trim_scale(closed_pnl) AS closed_pnl,
       trim_scale(fee) AS fee, fee_token, trim_scale(builder_fee) AS builder_fee, builder,
       trim_scale(deployer_fee) AS deployer_fee, trim_scale(priority_gas) AS priority_gas,
       tid, oid, twap_id, '0x' || encode(hash, 'hex') AS hash, '0x' || encode(cloid, 'hex') AS cloid,
       liquidated_user, trim_scale(liquidation_mark_px) AS liquidation_mark_px, liquidation_method,
       block_number, block_time_ns, object_key, extra, counterparty_oid{more}
FROM hl.fills JOIN hl.s3_ingest_log USING (object_id);
"""
COMMENT = """
COMMENT ON VIEW hl.fills_readable IS
    'hl.fills for people: hash and cloid as 0x…, numbers without trailing zeros, the object by its key'
"""


def upgrade() -> None:
    op.execute("ALTER TABLE hl.fills ADD COLUMN ordinal integer")
    op.execute(
        "COMMENT ON COLUMN hl.fills.ordinal IS "
        "'Its place among the fills of its object, from 0 on; NULL: not known, or loaded by an earlier version'"
    )
    op.execute("CREATE OR REPLACE" + READABLE.replace("{more}", ", object_id, ordinal"))


def downgrade() -> None:
    op.execute("DROP VIEW hl.fills_readable")
    op.execute("ALTER TABLE hl.fills DROP COLUMN ordinal")
    op.execute("CREATE" + READABLE.replace("{more}", ""))
    op.execute(COMMENT)
