"""Alembic's entry: uses the connection, and thereby the transaction, that `upgrade` was given."""

from __future__ import annotations

from alembic import context

from ml_platform.registry.sql import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
