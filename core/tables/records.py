"""What a job leaves: metrics, log and files."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.database import db_now
from core.tables.base import SHA256, Id, Table


class JobMetric(Table):
    __tablename__ = "job_metrics"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[int]
    value: Mapped[float | None] = mapped_column(doc="NULL stands for a value that was not finite.")
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class JobLogChunk(Table):
    __tablename__ = "job_log_chunks"

    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    size_bytes: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=db_now())


class Artifact(Table):
    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name", "attempt"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    job_id: Mapped[str] = mapped_column(Id, ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(String(200))
    storage_key: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(String(200))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(SHA256)
    step: Mapped[int | None] = mapped_column(doc="Optimizer step of a checkpoint.")
    complete: Mapped[bool] = mapped_column(default=False, doc="True once the job has succeeded.")
    created_at: Mapped[datetime] = mapped_column(default=db_now())
