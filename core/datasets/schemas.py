"""Datasets as the API shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from core.datasets.lifecycle import DatasetStatus
from core.jobs.schemas import DisplayName
from core.open_enums import Open
from core.stored import read_stored
from trainer.dataset.schema import (
    NO_OTHER_KEYS,
    DatasetFormat,
    DatasetMapping,
    DatasetProblem,
    DatasetSchema,
)
from trainer.dataset.steps import STEP_PATTERN, parse_frequency

MAX_POINTS = 1_000_000
MetricName = Annotated[str, StringConstraints(max_length=200, pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]


class DatasetRead(BaseModel):
    """A table of server metrics that was uploaded."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    id: str
    name: str | None
    status: Open[DatasetStatus]
    format: Open[DatasetFormat]
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
        # By the names that the columns have.
        names = {name: field.alias or name for name, field in cls.model_fields.items() if name != "links"}
        read = read_stored(cls, {name: getattr(row, column) for name, column in names.items()})
        read.links = {"self": f"/v1/datasets/{read.id}"}
        return read


class DatasetPull(BaseModel):
    """A range of samples to pull from a Prometheus server, or one that speaks its query API."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        max_length=2000,
        description="Where the server's API begins, before /api/v1; one of those that the operator allows.",
        examples=["http://prometheus:9090"],
    )
    queries: dict[MetricName, Annotated[str, StringConstraints(min_length=1, max_length=4000)]] = Field(
        min_length=1,
        max_length=50,
        description="A column's name, and the PromQL that gives its values.",
        examples=[{"load_average": "node_load1"}],
        json_schema_extra=NO_OTHER_KEYS,
    )
    start: AwareDatetime
    end: AwareDatetime
    step: str = Field(pattern=STEP_PATTERN, description="Between points, such as 30s, 5min, 1h.")
    name: DisplayName | None = Field(None, description="For people; need not be unique.")
    mapping: DatasetMapping = Field(default_factory=DatasetMapping)

    @property
    def points(self) -> int:
        """Of one series over the whole range."""
        return int((self.end - self.start).total_seconds() * 1e6 / parse_frequency(self.step)) + 1

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be after start")
        if self.points > MAX_POINTS:
            raise ValueError(
                f"{self.points:,} points a series are more than {MAX_POINTS:,}; take a coarser step"
            )
        return self
