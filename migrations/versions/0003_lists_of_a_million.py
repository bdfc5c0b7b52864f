"""lists of a million jobs, by status and by label"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UtcDateTime = sa.DateTime(timezone=True).with_variant(sa.BigInteger(), "sqlite")

# The release before, which still runs, writes no rows here: labels of jobs it takes meanwhile are not found
# by a filter until they are changed.
FILL = """
    INSERT INTO job_labels (tenant_id, key, value, created_at, job_id)
    SELECT jobs.tenant_id, label.key, label.value, jobs.created_at, jobs.id FROM jobs, {each} AS label
"""


def upgrade() -> None:
    op.create_table(
        "job_labels",
        sa.Column("tenant_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id", "key", "value", "created_at", "job_id", name=op.f("pk_job_labels")
        ),
    )
    is_postgres = op.get_bind().dialect.name == "postgresql"
    op.execute(FILL.format(each="jsonb_each_text(jobs.labels)" if is_postgres else "json_each(jobs.labels)"))
    op.create_index(op.f("ix_job_labels_job_id"), "job_labels", ["job_id"])
    op.create_index("ix_jobs_status_page", "jobs", ["tenant_id", "status", "created_at", "id"])
    op.drop_index("ix_jobs_tenant_id_status", table_name="jobs")


def downgrade() -> None:
    op.create_index("ix_jobs_tenant_id_status", "jobs", ["tenant_id", "status"])
    op.drop_index("ix_jobs_status_page", table_name="jobs")
    op.drop_table("job_labels")
