"""The log, its head and the read tables.

A log is never downgraded: there is no way back from this revision.
"""

from __future__ import annotations

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column(
            "entry",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    )
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "size": 0, "frontier": bytes(8), "root": sha256(b"").digest()}])
    _read_tables()


def _read_tables() -> None:
    op.create_table(
        "versions",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("candidate", sa.String(64), nullable=False),
        sa.Column("artifact", sa.String(71), nullable=False),
        sa.Column("evaluation", sa.String(71), nullable=False),
        sa.Column("training_set", sa.String(71), nullable=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("model", "candidate", name="one_version_per_candidate"),
    )
    op.create_table(
        "stages",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
    )
    for stage in ("staging", "canary", "production"):
        where = sa.text(f"stage = '{stage}'")
        op.create_index(
            f"one_{stage}_version_per_model",
            "stages",
            ["model"],
            unique=True,
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "approvals",
        sa.Column("payload", sa.String(71), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("principal", sa.String(64), nullable=False),
        sa.Column("nonce", sa.String(64), nullable=False, unique=True),
        sa.Column("entry", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.BigInteger),
    )
    op.create_table(
        "nonces",
        sa.Column("nonce", sa.String(64), primary_key=True),
        sa.Column("entry", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "segments",
        sa.Column("segment", sa.String(192), primary_key=True),
        sa.Column("writer", sa.String(192), nullable=False),
        sa.Column("first_id", sa.String(192), nullable=False),
        sa.Column("last_id", sa.String(192), nullable=False),
        sa.Column("min_decided_at", sa.String(27), nullable=False),
        sa.Column("max_decided_at", sa.String(27), nullable=False),
        sa.Column("entry", sa.BigInteger, nullable=False),
    )
