"""Alembic's entry: migrations run in the connection and the transaction of `hl_pipeline.warehouse.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table_schema="hl", transactional_ddl=False)
context.run_migrations()
