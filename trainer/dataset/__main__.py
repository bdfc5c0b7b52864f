"""`python -P -m trainer.dataset inspect FILE --format F [--mapping JSON]`, and `… values FILE …` likewise.

Prints one JSON object: {"schema": …} or {"values": …} with exit code 0, or {"problem": …} with exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema, SeriesValues

_OUT_OF_MEMORY = DatasetProblem(
    code="out_of_memory",
    detail="The file needs more memory than an inspection may take; send fewer columns or rows, or Parquet.",
)


class _NoPandas(MetaPathFinder):
    """Arrow loads pandas at its first conversion where it finds it: half a second for nothing."""

    def find_spec(self, name: str, *_: object) -> None:
        """Raise ModuleNotFoundError for pandas, leave the rest to others."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def main(arguments: list[str] | None = None) -> int:
    """Read one file and print the answer."""
    asked = _parser().parse_args(arguments)
    # Allocators and threads reserve address space in large steps, which a limit on it counts as memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.meta_path.insert(0, _NoPandas())
    try:
        answer = _read(asked)
    except MemoryError:
        answer = _OUT_OF_MEMORY
    kinds = {DatasetSchema: "schema", SeriesValues: "values", DatasetProblem: "problem"}
    return _print(kinds[type(answer)], answer)


def _read(asked: argparse.Namespace) -> DatasetSchema | SeriesValues | DatasetProblem:
    import pyarrow as pa  # noqa: PLC0415

    from trainer.dataset.errors import DatasetError  # noqa: PLC0415 - after the allocator is chosen
    from trainer.dataset.inspection import inspect  # noqa: PLC0415
    from trainer.dataset.values import read_values  # noqa: PLC0415

    path, mapping = Path(asked.file), DatasetMapping.model_validate_json(asked.mapping)
    # One thread of each kind: a second one costs more address space than it saves time.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        if asked.command == "inspect":
            return inspect(path, asked.format, mapping)
        schema = DatasetSchema.model_validate_json(asked.schema)
        return read_values(
            path,
            asked.format,
            mapping,
            schema,
            column=asked.column,
            series=asked.series,
            max_points=asked.max_points,
        )
    except DatasetError as error:
        return error.problem


def _print(kind: str, content: BaseModel) -> int:
    sys.stdout.write(f'{{"{kind}": {content.model_dump_json()}}}\n')
    sys.stdout.flush()
    return 2 if kind == "problem" else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m trainer.dataset", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    inspect = commands.add_parser("inspect", help="describe a dataset file")
    values = commands.add_parser("values", help="one column of one series")
    for command in (inspect, values):
        command.add_argument("file")
        command.add_argument("--format", required=True, choices=get_args(DatasetFormat))
        command.add_argument("--mapping", default="{}", help="a DatasetMapping as JSON")
    values.add_argument("--schema", required=True, help="what `inspect` found")
    values.add_argument("--column", required=True)
    values.add_argument("--series", help="default: the first")
    values.add_argument("--max-points", type=int, default=2000)
    return parser


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Taking Arrow down after memory ran out has crashed; the answer is out, so leave at once.
    os._exit(code)
