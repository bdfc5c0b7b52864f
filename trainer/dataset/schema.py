"""What inspection learns about a dataset: its columns, its clock, its series. pydantic only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DatasetFormat = Literal["csv", "csv.gz", "parquet", "ndjson"]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ColumnMapping(BaseModel):
    """A new name or a unit for one column of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ColumnName | None = None
    unit: Annotated[str, StringConstraints(max_length=40)] | None = None


class DatasetMapping(BaseModel):
    """How to read the file; what is left out is detected."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    time_column: ColumnName | None = None
    group_columns: list[ColumnName] | None = Field(
        None, max_length=3, description="Columns that name a series, 0 to 3."
    )
    frequency: str | None = Field(
        None, pattern=r"^[1-9][0-9]{0,6}(s|min|h|d)$", description="Step between rows, such as 30s, 5min, 1h."
    )
    columns: dict[ColumnName, ColumnMapping] = Field(
        default_factory=dict, description="By the name in the file."
    )


class Column(BaseModel):
    """One column after mapping. Figures are over finite values; units as told in the mapping."""

    model_config = ConfigDict(frozen=True)
    name: str
    type: Literal["numeric", "text", "boolean", "time"]
    unit: str | None = None
    missing_count: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None


FindingCode = Literal[
    "gaps",
    "duplicates",
    "unaligned",
    "too_short",
    "constant",
    "out_of_range",
    "missing_values",
    "mixed_values",
    "unordered",
    "ignored_columns",
]


class Finding(BaseModel):
    """One kind of trouble in the data, counted, with its first examples."""

    model_config = ConfigDict(frozen=True)
    code: FindingCode
    detail: str
    series_count: int
    row_count: int
    examples: list[dict[str, Any]] = Field(description="At most 5: series, row or column, and what was seen.")


class DatasetSchema(BaseModel):
    """A dataset as the service and the trainer know it. Row counts are rows of the file."""

    model_config = ConfigDict(frozen=True)
    format: DatasetFormat
    time_column: str
    group_columns: list[str]
    frequency_seconds: float = Field(description="Median step between neighbouring rows of a series.")
    columns: list[Column]
    row_count: int
    series_count: int
    series_lengths: dict[str, int] = Field(description="Steps per series after alignment: min, median, max.")
    starts_at: datetime
    ends_at: datetime
    findings: list[Finding] = Field(default_factory=list)

    def numeric_columns(self) -> list[str]:
        """Columns that can be a target or a covariate."""
        return [column.name for column in self.columns if column.type == "numeric"]


ProblemCode = Literal[
    "empty_file",
    "unreadable_file",
    "unsupported_format",
    "no_time_column",
    "ambiguous_time_column",
    "no_numeric_column",
    "unknown_column",
    "bad_time_value",
    "irregular_frequency",
    "duplicate_column",
    "duplicate_rows",
    "missing_values",
    "varying_category",
    "too_many_rows",
    "too_many_columns",
    "out_of_memory",
    "timed_out",
    "inspection_failed",  # the service's own: the inspection crashed twice
]


class DatasetProblem(BaseModel):
    """Why a file cannot be used, with the place where that shows."""

    model_config = ConfigDict(frozen=True)
    code: ProblemCode
    detail: str = Field(description="One sentence that says what to do.")
    column: str | None = None
    row: int | None = Field(None, description="1-based row of data, the header not counted.")
