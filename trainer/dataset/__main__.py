"""`python -P -m trainer.dataset inspect FILE --format F [--mapping JSON]`.

Prints one JSON object: {"schema": …} with exit code 0, or {"problem": …} with exit code 2.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema

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
    """Inspect one file and print the answer."""
    asked = _parser().parse_args(arguments)
    mapping = DatasetMapping.model_validate_json(asked.mapping)
    # Allocators and threads reserve address space in large steps, which a limit on it counts as memory.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.meta_path.insert(0, _NoPandas())
    try:
        schema = _inspect(Path(asked.file), asked.format, mapping)
    except MemoryError:
        return _answer("problem", _OUT_OF_MEMORY)
    return _answer("schema", schema) if isinstance(schema, DatasetSchema) else _answer("problem", schema)


def _inspect(path: Path, kind: DatasetFormat, mapping: DatasetMapping) -> DatasetSchema | DatasetProblem:
    import pyarrow as pa  # noqa: PLC0415

    from trainer.dataset.errors import DatasetError  # noqa: PLC0415 - after the allocator is chosen
    from trainer.dataset.inspection import inspect  # noqa: PLC0415

    # One thread of each kind: a second one costs more address space than it saves time.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    try:
        return inspect(path, kind, mapping)
    except DatasetError as error:
        return error.problem


def _answer(kind: str, content: BaseModel) -> int:
    sys.stdout.write(f'{{"{kind}": {content.model_dump_json()}}}\n')
    sys.stdout.flush()
    return 0 if kind == "schema" else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m trainer.dataset", description=__doc__)
    command = parser.add_subparsers(required=True).add_parser("inspect", help="describe a dataset file")
    command.add_argument("file")
    command.add_argument("--format", required=True, choices=get_args(DatasetFormat))
    command.add_argument("--mapping", default="{}", help="a DatasetMapping as JSON")
    return parser


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Taking Arrow down after memory ran out has crashed; the answer is out, so leave at once.
    os._exit(code)
