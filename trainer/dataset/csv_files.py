"""CSV and CSV.gz, read as text batch by batch; types are ours to settle."""

from __future__ import annotations

import csv
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from trainer.dataset.batches import gather
from trainer.dataset.clock import looks_like_a_time
from trainer.dataset.errors import DatasetError, problem
from trainer.dataset.streams import DAMAGED, open_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from trainer.dataset.batches import Batch
    from trainer.dataset.limits import ReadLimits

_DELIMITERS = ",;\t|"


def read_header(path: Path, *, gzipped: bool, limits: ReadLimits) -> tuple[list[str], str]:
    """Column names and the delimiter, from the first line. Raises DatasetError."""
    try:
        with open_text(path, gzipped=gzipped, limits=limits) as file:
            line = file.readline(limits.max_line_bytes)
    except DAMAGED as error:
        raise _damaged() from error
    if len(line) == limits.max_line_bytes:
        raise _line_too_long(limits)
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError as error:
        raise problem("unreadable_file", "The header is not UTF-8; save the file as UTF-8.") from error
    if not text.strip():
        raise problem("empty_file", "The first line is empty; it must hold the column names.")
    delimiter = max(_DELIMITERS, key=text.count)
    return _names(text, delimiter), delimiter


def read_csv(
    path: Path, header: tuple[list[str], str], wanted: Collection[str], *, gzipped: bool, limits: ReadLimits
) -> dict[str, pa.ChunkedArray]:
    """The wanted columns by their names in the file, each in its own type. Raises DatasetError."""

    def batches() -> Iterator[Batch]:
        with open_text(path, gzipped=gzipped, limits=limits) as file:
            yield from _batches(file, header, wanted, limits)

    return gather(batches, wanted, limits)


def _names(line: str, delimiter: str) -> list[str]:
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error as error:
        raise problem("unreadable_file", "The header cannot be read as CSV; check its quotes.") from error
    if any(_is_value(cell) for cell in cells):
        raise problem("unreadable_file", "The first line must hold the column names, but it holds values.")
    return [cell or f"column_{place}" for place, cell in enumerate(cells, start=1)]


def _is_value(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return looks_like_a_time(cell)
    return cell.lower() not in ("nan", "inf", "infinity")


def _batches(
    file: IO[bytes], header: tuple[list[str], str], wanted: Collection[str], limits: ReadLimits
) -> Iterator[Batch]:
    names, delimiter = header
    ragged: list[Any] = []

    def remember(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        reader = arrow_csv.open_csv(
            file,
            read_options=arrow_csv.ReadOptions(
                block_size=limits.max_line_bytes, column_names=names, skip_rows=1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[name for name in names if name in wanted],
            ),
        )
        for batch in reader:
            columns = (
                batch.columns if delimiter != ";" else [_with_points(column) for column in batch.columns]
            )
            yield dict(zip(batch.schema.names, columns, strict=True))
    except pa.ArrowInvalid as error:
        raise _csv_problem(str(error), ragged, limits) from error
    except DAMAGED as error:
        raise _damaged() from error


def _with_points(values: pa.Array) -> pa.Array:
    """Where semicolons part the cells, 12,5 is a number with a decimal comma."""
    return pc.replace_substring_regex(values, r"^(\s*[+-]?\d+),(\d+\s*)$", r"\1.\2")


def _csv_problem(message: str, ragged: list[Any], limits: ReadLimits) -> DatasetError:
    if ragged:
        row = ragged[0]
        return problem(
            "unreadable_file",
            f"A row has {row.actual_columns} cells where the header has {row.expected_columns}.",
            row=row.number - 1 if row.number else None,
        )
    if "Empty CSV" in message:
        return problem("empty_file", "The file holds a header but no rows.")
    if "straddl" in message:
        return _line_too_long(limits)
    if "UTF8" in message:
        return problem("unreadable_file", "The file holds bytes that are not UTF-8; save it as UTF-8.")
    return problem("unreadable_file", "The file cannot be read as CSV; check its quotes and delimiters.")


def _line_too_long(limits: ReadLimits) -> DatasetError:
    return problem(
        "unreadable_file",
        f"A line is longer than {limits.max_line_bytes:,} bytes, or a quote is never closed.",
    )


def _damaged() -> DatasetError:
    return problem("unreadable_file", "The file is damaged or cut off; upload it again in full.")
