"""Reads one column of one series out of a stored dataset, in a child process like an inspection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.datasets.inspection import InspectionCrashed, ask_child, at_hand
from core.errors import DatasetNotReady, FieldProblem, InvalidRequest, NotFound, UnusableDataset
from core.stored import read_stored
from trainer.dataset.schema import DatasetMapping, DatasetProblem, DatasetSchema, SeriesValues

if TYPE_CHECKING:
    from core.settings import Settings
    from core.storage import ObjectStorage
    from core.tables import Dataset


@dataclass(frozen=True)
class WantedValues:
    """Which part of which file."""

    storage_key: str
    sha256: str
    format: str
    mapping: DatasetMapping
    schema: DatasetSchema
    column: str
    series: str | None
    max_points: int


def choose_values(dataset: Dataset, column: str | None, series: str | None, max_points: int) -> WantedValues:
    """`column` None: the first that holds numbers. Raises DatasetNotReady and InvalidRequest."""
    if dataset.schema is None:
        raise DatasetNotReady(f"The dataset is {dataset.status}; only a ready one has values.")
    schema = read_stored(DatasetSchema, dataset.schema)
    columns = schema.numeric_columns()
    if column is not None and column not in columns:
        detail = f"There is no numeric column {column!r}; there are {', '.join(columns)}."
        raise InvalidRequest(detail, [FieldProblem("unknown_column", detail, "/query/column")])
    return WantedValues(
        storage_key=dataset.storage_key,
        sha256=dataset.sha256,
        format=dataset.format,
        mapping=read_stored(DatasetMapping, dataset.mapping),
        schema=schema,
        column=column or columns[0],
        series=series,
        max_points=max_points,
    )


def read_values(storage: ObjectStorage, settings: Settings, wanted: WantedValues) -> SeriesValues:
    """Raises NotFound for a series that is not there, UnusableDataset, StorageUnavailable."""
    with at_hand(storage, wanted.storage_key, settings.data_dir) as path:
        arguments = ["values", str(path), "--format", wanted.format]
        arguments += ["--mapping", wanted.mapping.model_dump_json()]
        arguments += ["--schema", wanted.schema.model_dump_json(), f"--column={wanted.column}"]
        arguments += [] if wanted.series is None else [f"--series={wanted.series}"]
        try:
            answer = ask_child([*arguments, f"--max-points={wanted.max_points}"], settings)
        except InspectionCrashed as error:
            detail = "Reading the values broke off; try again."
            raise UnusableDataset(DatasetProblem(code="inspection_failed", detail=detail)) from error
    if isinstance(answer, DatasetProblem):
        raise NotFound(answer.detail) if answer.code == "unknown_series" else UnusableDataset(answer)
    return SeriesValues.model_validate(answer["values"])
