"""NDJSON: one object a line. Nested objects become `outer.inner`; lists are left out."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.json as arrow_json

from trainer.dataset.batches import gather
from trainer.dataset.errors import listed, problem
from trainer.dataset.streams import open_text, whole_lines

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from trainer.dataset.batches import Batch
    from trainer.dataset.limits import ReadLimits

_DEEPEST_NESTING = 3


def read_ndjson(
    path: Path, wanted: Collection[str] | None, limits: ReadLimits
) -> tuple[dict[str, pa.ChunkedArray], list[str], list[str]]:
    """The wanted columns by name, the names of all columns, and of those left out because they are nested.

    Raises DatasetError.
    """
    ignored: set[str] = set()
    seen: dict[str, None] = {}

    def batches() -> Iterator[Batch]:
        with open_text(path, gzipped=False, limits=limits) as file:
            for lines_before, chunk in whole_lines(file, limits):
                if chunk.strip():
                    batch = _parse(chunk, lines_before, ignored)
                    seen.update(dict.fromkeys(batch))
                    yield batch

    columns = gather(batches, wanted, limits)
    return columns, list(seen), sorted(ignored - seen.keys())


def _parse(chunk: bytes, lines_before: int, ignored: set[str]) -> Batch:
    _refuse_other_encodings(chunk, lines_before)
    try:
        table = arrow_json.read_json(
            pa.BufferReader(chunk),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(chunk) + 1),
        )
    except pa.ArrowInvalid:
        # Mixed types in a column or a damaged line: slower, but this can say which line.
        return _parse_lines(chunk, lines_before, ignored)
    for _ in range(_DEEPEST_NESTING):
        table = table.flatten()
    nested = {field.name for field in table.schema if pa.types.is_nested(field.type)}
    ignored |= nested
    return {name: table[name].combine_chunks() for name in table.column_names if name not in nested}


def _refuse_other_encodings(chunk: bytes, lines_before: int) -> None:
    try:
        chunk.decode()
    except UnicodeDecodeError as error:
        row = lines_before + chunk.count(b"\n", 0, error.start) + 1
        raise problem("unreadable_file", "A line is not UTF-8; save the file as UTF-8.", row=row) from error


def _parse_lines(chunk: bytes, lines_before: int, ignored: set[str]) -> Batch:
    lines = enumerate(chunk.split(b"\n"), start=lines_before + 1)
    rows = [_parse_line(line, number, ignored) for number, line in lines if line.strip()]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column([row.get(name) for row in rows]) for name in names}


def _parse_line(line: bytes, row: int, ignored: set[str]) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        if twice:
            raise problem("duplicate_column", f"A row names {listed(twice)} twice.", column=twice[0], row=row)
        return dict(pairs)

    try:
        value = json.loads(line, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise problem("unreadable_file", "A line is not valid JSON.", row=row) from error
    if not isinstance(value, dict):
        raise problem("unreadable_file", "A line is not a JSON object.", row=row)
    return dict(_flat(value, "", 0, ignored))


def _flat(value: dict[str, Any], prefix: str, depth: int, ignored: set[str]) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict) and depth < _DEEPEST_NESTING:
            yield from _flat(inner, f"{prefix}{name}.", depth + 1, ignored)
        elif isinstance(inner, dict | list):
            ignored.add(prefix + name)
        else:
            yield prefix + name, inner


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([None if value is None else _spelt(value) for value in values], pa.string())


def _spelt(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
