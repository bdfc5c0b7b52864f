"""A file of server metrics on the command line: its format, how it is read, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from foretrain.refusals import Refusal
from trainer.dataset.schema import DatasetFormat, DatasetMapping

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.errors import DatasetError

ENDINGS: dict[str, DatasetFormat] = {
    ".csv.gz": "csv.gz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}


def format_of(file: Path) -> DatasetFormat:
    """By the ending. Raises Refusal, also for a file that is not there."""
    if file.is_dir():
        raise Refusal(f"{file} is a folder; a folder of files is not supported yet, name one file")
    if not file.is_file():
        raise Refusal(f"there is no file {file}")
    for ending, data_format in ENDINGS.items():
        if file.name.lower().endswith(ending):
            return data_format
    raise Refusal(f"{file.name} has none of the endings {', '.join(ENDINGS)}")


def mapping_of(
    time_column: str | None, group_columns: list[str] | None, frequency: str | None
) -> DatasetMapping:
    """How to read the file, from the options. Raises Refusal, naming the option."""
    try:
        return DatasetMapping(time_column=time_column, group_columns=group_columns, frequency=frequency)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise Refusal(
            f"--{str(problem['loc'][0]).replace('_', '-').rstrip('s')}: {problem['msg']}"
        ) from error


def refusal_of(file: Path, error: DatasetError) -> Refusal:
    """What is wrong with the file, with the place where that shows."""
    problem = error.problem
    places = [
        f"{name} {value}" for name, value in (("column", problem.column), ("row", problem.row)) if value
    ]
    return Refusal(f"{file}: {problem.detail}" + (f" ({', '.join(places)})" if places else ""))
