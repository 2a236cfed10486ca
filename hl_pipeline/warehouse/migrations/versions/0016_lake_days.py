"""The catalog of the lake's Apache Iceberg tables, and the days that are compacted in them."""

from alembic import op

revision = "0016"
down_revision = "0015"

# The tables of hl_iceberg are those of pyiceberg's SqlCatalog (schema v1).
UPGRADE = """
CREATE SCHEMA hl_iceberg;
COMMENT ON SCHEMA hl_iceberg IS 'Catalog of the lake''s Apache Iceberg tables, in the form of JDBC catalogs';
CREATE TABLE hl_iceberg.iceberg_tables (
    catalog_name                varchar(255) NOT NULL,
    table_namespace             varchar(255) NOT NULL,
    table_name                  varchar(255) NOT NULL,
    metadata_location           varchar(1000),
    previous_metadata_location  varchar(1000),
    iceberg_type                varchar(5),
    PRIMARY KEY (catalog_name, table_namespace, table_name)
);
CREATE TABLE hl_iceberg.iceberg_namespace_properties (
    catalog_name    varchar(255) NOT NULL,
    namespace       varchar(255) NOT NULL,
    property_key    varchar(255) NOT NULL,
    property_value  varchar(1000) NOT NULL,
    PRIMARY KEY (catalog_name, namespace, property_key)
);

CREATE TABLE hl.lake_days (
    table_name        text NOT NULL CHECK (table_name <> ''),
    date              date NOT NULL,
    files             text[] NOT NULL,
    rows              bigint NOT NULL,
    bytes             bigint NOT NULL,
    snapshot_id       bigint NOT NULL,
    state             text NOT NULL,
    made_from         text NOT NULL,
    loaded_at         timestamptz NOT NULL,
    notional          numeric,
    notional_unknown  bigint,
    compacted_at      timestamptz NOT NULL,
    PRIMARY KEY (table_name, date)
);
COMMENT ON TABLE hl.lake_days IS
    'Days in the lake''s Apache Iceberg tables. A day of fills is current if hl.fills_days has the same loaded_at';
"""

DOWNGRADE = """
DROP TABLE hl.lake_days;
DROP SCHEMA hl_iceberg CASCADE;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
