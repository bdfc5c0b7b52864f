"""What inspection learns about a dataset: its columns, its clock, its series. pydantic only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from trainer.dataset.steps import STEP_PATTERN
from trainer.dataset.units import conversion_between, rate_unit

DatasetFormat = Literal["csv", "csv.gz", "parquet", "ndjson", "prometheus", "victoriametrics", "influx"]
# Without NUL, which no database and no header of a file holds.
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
# Of a mapping whose keys have a pattern: pydantic's schema does not say that all keys must fit it.
NO_OTHER_KEYS: dict[str, JsonValue] = {"additionalProperties": False}

Unit = Annotated[str, StringConstraints(max_length=40)]
PresetName = Literal["node_exporter", "telegraf", "cloudwatch"]


class ColumnMapping(BaseModel):
    """A new name or a unit for one column of the file, and how its numbers are converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ColumnName | None = None
    unit: Unit | None = Field(None, description="Of the numbers in the file, such as %, bytes, ms.")
    counter: bool = Field(
        False,
        description="The numbers only grow: each becomes the growth per second since the one before it. "
        "Where one is smaller, the counter began anew at zero.",
    )
    convert_to: Unit | None = Field(
        None,
        description="The unit to publish, of the same kind as `unit` (of a counter: as `unit` a second).",
    )

    @model_validator(mode="after")
    def _units_can_be_converted(self) -> Self:
        if self.convert_to is not None:
            source = None if self.unit is None else rate_unit(self.unit) if self.counter else self.unit
            conversion_between(source, self.convert_to)
        return self

    @property
    def published_unit(self) -> str | None:
        """The unit of the numbers once they are converted."""
        if self.convert_to is not None or self.unit is None:
            return self.convert_to
        return rate_unit(self.unit) if self.counter else self.unit


class LongTable(BaseModel):
    """A table with one number a row: which metric it is stands beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    metric_column: ColumnName = Field(description="Holds the names of the metrics.")
    value_column: ColumnName = Field(description="Holds the numbers.")


class WideTable(BaseModel):
    """A table with one column for each server, or for each server and metric."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    series_column: ColumnName = Field("server", description="What to call the column of the servers' names.")
    metric: ColumnName | None = Field(None, description="What the numbers are, where they are all the same.")
    separator: Annotated[str, StringConstraints(min_length=1, max_length=10)] | None = Field(
        None, description="Parts server and metric in a column's name, at its last place: web-1.cpu_percent."
    )

    @model_validator(mode="after")
    def _says_where_the_metric_stands(self) -> Self:
        if (self.metric is None) == (self.separator is None):
            raise ValueError("give either metric or separator")
        return self


class DatasetMapping(BaseModel):
    """How to read the file; what is left out is detected."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    time_column: ColumnName | None = None
    group_columns: list[ColumnName] | None = Field(
        None, max_length=3, description="Columns or labels that name a series, 0 to 3."
    )
    frequency: str | None = Field(
        None, pattern=STEP_PATTERN, description="Step between rows, such as 30s, 5min, 1h."
    )
    long: LongTable | None = None
    wide: WideTable | None = None
    preset: PresetName | None = Field(
        None,
        description="Makes cpu_percent, memory_percent, disk_percent, load_average and the like of the "
        "metrics that this exporter is known for.",
    )
    columns: dict[ColumnName, ColumnMapping] = Field(
        default_factory=dict,
        description="By the name in the file, or the one that reshaping gave it.",
        json_schema_extra=NO_OTHER_KEYS,
    )

    @model_validator(mode="after")
    def _has_one_shape(self) -> Self:
        if self.long is not None and self.wide is not None:
            raise ValueError("a table is long or wide, not both")
        return self


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


class SeriesValues(BaseModel):
    """One column of one series on its regular grid, thinned for drawing: spikes stay, so do gaps."""

    model_config = ConfigDict(frozen=True)
    series: str
    column: str
    step_count: int = Field(description="Steps of the series before thinning.")
    times: list[float] = Field(description="Seconds since 1970, UTC.")
    values: list[float | None] = Field(description="One for each time; null where nothing was measured.")
    series_names: list[str] = Field(description="The dataset's series by name, at most 1,000.")


ProblemCode = Literal[
    "empty_file",
    "unreadable_file",
    "unsupported_format",
    "bad_mapping",
    "no_time_column",
    "ambiguous_time_column",
    "no_numeric_column",
    "unknown_column",
    "unknown_series",
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
    row: int | None = Field(
        None,
        description="1-based row of data, the header not counted; line of a file of lines; series of a "
        "Prometheus answer.",
    )
