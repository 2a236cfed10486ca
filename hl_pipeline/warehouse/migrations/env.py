"""Alembic's entry: migrations run in the connection and the transaction of `hl_pipeline.warehouse.migrate`."""

from alembic import context

given = context.config.attributes
context.configure(
    connection=given["connection"], version_table_schema="hl", transactional_ddl=False, on_version_apply=given["note"]
)
context.run_migrations()
