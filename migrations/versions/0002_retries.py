"""what a retry does not count"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With defaults of the database's own: the release before, which still runs, does not know the columns.
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("fresh_after", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("earlier_seconds", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_column("earlier_seconds")
        batch_op.drop_column("fresh_after")
