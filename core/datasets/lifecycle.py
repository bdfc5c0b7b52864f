"""A dataset's statuses."""

from __future__ import annotations

from enum import StrEnum

MAX_INSPECTIONS = 2


class DatasetStatus(StrEnum):
    INSPECTING = "inspecting"
    READY = "ready"
    REJECTED = "rejected"
