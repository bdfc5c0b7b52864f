"""Datasets as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.datasets.lifecycle import DatasetStatus
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema


class DatasetRead(BaseModel):
    """A table of server metrics that was uploaded."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    id: str
    name: str | None
    status: DatasetStatus
    format: DatasetFormat
    mapping: DatasetMapping
    sha256: str
    size_bytes: int
    table: DatasetSchema | None = Field(
        alias="schema", description="What inspection found; null until the dataset is ready."
    )
    problem: DatasetProblem | None = Field(description="Why it was rejected.")
    created_at: datetime
    inspected_at: datetime | None
    links: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Any) -> DatasetRead:
        """From `core.tables.Dataset`."""
        read = cls.model_validate(row)
        read.links = {"self": f"/v1/datasets/{read.id}"}
        return read
