"""Counts that outlive what they count."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import Id, Table


class TallyEntry(Table):
    """Something that happened and is not in the totals yet."""

    __tablename__ = "tally_entries"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    outcome: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(String(40))
    bucket: Mapped[int] = mapped_column(doc="Upper bound of its duration in seconds; 0 stands for none.")
    seconds: Mapped[float]


class Tally(Table):
    """How often something happened; kept when the jobs it happened to are deleted."""

    __tablename__ = "tallies"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    outcome: Mapped[str] = mapped_column(String(40), primary_key=True)
    reason: Mapped[str] = mapped_column(String(40), primary_key=True)
    bucket: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, doc="Upper bound of the durations in seconds; 0 for none."
    )
    count: Mapped[int]
    seconds: Mapped[float] = mapped_column(doc="Sum of the durations.")
