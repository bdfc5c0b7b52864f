"""The machines that train."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from core.database import db_now
from core.tables.base import Json, Table


class Worker(Table):
    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    queue: Mapped[str] = mapped_column(String(40))
    devices: Mapped[int] = mapped_column(doc="That it can give a job now; 0 while its disk is full.")
    threads: Mapped[int]
    hardware: Mapped[Json]
    readings: Mapped[Json | None] = mapped_column(doc="How busy its GPUs were at the last look.")
    started_at: Mapped[datetime] = mapped_column(default=db_now())
    heartbeat_at: Mapped[datetime] = mapped_column(default=db_now())
