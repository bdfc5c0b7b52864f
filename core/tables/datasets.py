"""Datasets, and those whose bytes are on their way."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.database import db_now
from core.datasets.lifecycle import MAX_INSPECTIONS, DatasetStatus
from core.tables.base import SHA256, Id, Json, Table, closed


class Upload(Table):
    """A dataset whose bytes are on their way; gone once it is registered or abandoned."""

    __tablename__ = "uploads"

    dataset_id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    storage_key: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Dataset(Table):
    __tablename__ = "datasets"
    __table_args__ = (
        Index(
            "uq_datasets_content",
            "tenant_id",
            "sha256",
            "reading_sha256",
            unique=True,
            postgresql_where=text("status <> 'rejected' AND deleted_at IS NULL"),
            sqlite_where=text("status <> 'rejected' AND deleted_at IS NULL"),
        ),
        Index("ix_datasets_page", "tenant_id", "created_at", "id"),
        Index(
            "ix_datasets_inspecting",
            "inspection_lease_until",
            postgresql_where=text("status = 'inspecting'"),
            sqlite_where=text("status = 'inspecting'"),
        ),
        Index(
            "ix_datasets_unpurged",
            "deleted_at",
            postgresql_where=text("(deleted_at IS NOT NULL OR status = 'rejected') AND purged_at IS NULL"),
            sqlite_where=text("(deleted_at IS NOT NULL OR status = 'rejected') AND purged_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Id, ForeignKey("tenants.id"))
    name: Mapped[str | None] = mapped_column(String(200))
    status: Mapped[DatasetStatus] = mapped_column(closed(DatasetStatus, "status"))
    format: Mapped[str] = mapped_column(String(20))
    mapping: Mapped[Json]
    reading_sha256: Mapped[str] = mapped_column(
        SHA256, doc="Of format and mapping: the same bytes read otherwise are another dataset."
    )
    sha256: Mapped[str] = mapped_column(SHA256)
    size_bytes: Mapped[int]
    storage_key: Mapped[str] = mapped_column(Text)
    schema: Mapped[Json | None]
    problem: Mapped[Json | None]
    inspection_attempt: Mapped[int] = mapped_column(
        default=0, doc="Raised by each start of an inspection; the older one's result is thrown away."
    )
    inspections_left: Mapped[int] = mapped_column(
        default=MAX_INSPECTIONS, doc="Attempts that may still be lost before it is rejected."
    )
    inspection_lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=db_now())
    inspected_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None] = mapped_column(
        doc="Rows stay for the jobs that name them; reads leave them out."
    )
    purged_at: Mapped[datetime | None] = mapped_column(
        doc="When the bytes of a deleted or rejected one went."
    )
