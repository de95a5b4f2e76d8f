"""Alembic's entry: runs the migrations on the connection and in the transaction that migration.py hands over."""

from alembic import context

from fairlead.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    # SQLite changes a table by copying it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
