"""A file of server metrics on the command line: its format, how it is read, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from foretrain.refusals import Refusal
from trainer.dataset.schema import DatasetFormat, DatasetMapping

if TYPE_CHECKING:
    from trainer.dataset.errors import DatasetError

ENDINGS: dict[str, DatasetFormat] = {
    ".csv.gz": "csv.gz",
    ".csv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "prometheus",
    ".lp": "influx",
    ".influx": "influx",
}
# VictoriaMetrics writes each line like this, into files with the endings of NDJSON.
EXPORTED_LINE = b'{"metric":{'


def format_of(file: Path, asked: str | None = None) -> DatasetFormat:
    """The one that is `asked` for, else by the ending. Raises Refusal, also for a file that is not there."""
    if file.is_dir():
        raise Refusal(f"{file} is a folder; a folder of files is not supported yet, name one file")
    if not file.is_file():
        raise Refusal(f"there is no file {file}")
    if asked is not None:
        return _known_format(asked)
    for ending, data_format in ENDINGS.items():
        if file.name.lower().endswith(ending):
            is_export = data_format == "ndjson" and _begins_with(file, EXPORTED_LINE)
            return "victoriametrics" if is_export else data_format
    raise Refusal(f"{file.name} has none of the endings {', '.join(ENDINGS)}; say what it is with --format")


def _known_format(name: str) -> DatasetFormat:
    known: tuple[DatasetFormat, ...] = get_args(DatasetFormat)
    for each in known:
        if each == name:
            return each
    raise Refusal(f"--format: there is no format {name}; there are {', '.join(known)}")


def _begins_with(file: Path, start: bytes) -> bool:
    with file.open("rb") as content:
        return content.read(len(start)) == start


def mapping_of(
    time_column: str | None,
    group_columns: list[str] | None,
    frequency: str | None,
    mapping: str | None = None,
) -> DatasetMapping:
    """How to read the file: `mapping`, a DatasetMapping as JSON or the name of a file that holds one, and the
    other options where they are given. Raises Refusal, naming the option.
    """
    options = {"time_column": time_column, "group_columns": group_columns, "frequency": frequency}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return DatasetMapping.model_validate(_mapping_fields(mapping) | given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = [str(part) for part in problem["loc"]]
        if place and place[0] in given:
            option = place[0].replace("_", "-").rstrip("s")
            raise Refusal(f"--{option}: {problem['msg']}") from error
        raise Refusal(f"--mapping: {'.'.join(place)}: {problem['msg']}") from error


def _mapping_fields(mapping: str | None) -> dict[str, Any]:
    if mapping is None:
        return {}
    try:
        text = mapping if mapping.lstrip().startswith("{") else Path(mapping).read_text(encoding="utf-8")
        fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise Refusal(f"--mapping: {error}") from error
    if not isinstance(fields, dict):
        raise Refusal("--mapping: the file holds no JSON object")
    return fields


def refusal_of(file: Path, error: DatasetError) -> Refusal:
    """What is wrong with the file, with the place where that shows."""
    problem = error.problem
    places = [
        f"{name} {value}" for name, value in (("column", problem.column), ("row", problem.row)) if value
    ]
    return Refusal(f"{file}: {problem.detail}" + (f" ({', '.join(places)})" if places else ""))
