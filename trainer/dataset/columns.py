"""Columns grow batch by batch and settle on the narrowest type that holds all their values."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

TEXT = pa.dictionary(pa.int32(), pa.string())
_NUMBERS = (pa.int64(), pa.float64())
# Ids such as 007 or 0x1f must keep their form.
_WRITTEN_AS_ID = r"^[+-]?0[0-9xX]"
_NO_VALUE = pa.array(
    ["", "null", "NULL", "Null", "None", "none", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "<NA>", "#N/A", "-"]
)


@dataclass
class ColumnBuilder:
    """One column of a text file. Its kind widens from int64 over float64 to text, or bool to text."""

    kind: pa.DataType | None = None
    rows: int = 0
    # Numbers or booleans came before text: how they were spelt is lost, so the file must be read again.
    lost_spelling: bool = False
    _chunks: list[pa.Array] = field(default_factory=list)

    def add(self, values: pa.Array) -> None:
        """Append one batch: strings as they stand in the file, or values a JSON parser has typed."""
        self.rows += len(values)
        if self.lost_spelling:
            return
        parsed = self._parse(values)
        self._chunks.append(parsed)
        self._widen(parsed.type)

    def pad(self, rows: int) -> None:
        """Append nulls up to `rows`."""
        if rows > self.rows:
            self._chunks.append(pa.nulls(rows - self.rows))
            self.rows = rows

    def finish(self) -> pa.ChunkedArray:
        """All batches in one type; a column without any value is float64."""
        kind = self.kind or pa.float64()
        return pa.chunked_array([_cast(chunk, kind) for chunk in self._chunks], kind)

    def _parse(self, values: pa.Array) -> pa.Array:
        if not pa.types.is_string(values.type):
            return values
        values = blank_to_null(values)
        if values.null_count == len(values):
            return pa.nulls(len(values))
        if self.kind == TEXT:
            return values.dictionary_encode()
        return _first_that_fits(values, [pa.float64()] if self.kind == pa.float64() else list(_NUMBERS))

    def _widen(self, kind: pa.DataType) -> None:
        if pa.types.is_null(kind) or kind == self.kind:
            return
        if self.kind is None:
            self.kind = kind
        elif self.kind in _NUMBERS and kind in _NUMBERS:
            self.kind = pa.float64()
        elif self.kind != TEXT:
            self.kind = TEXT
            self.lost_spelling = True
            self._chunks.clear()


def text_builder() -> ColumnBuilder:
    """A column that is text whatever it holds."""
    return ColumnBuilder(kind=TEXT)


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; `combine_chunks` would copy even a single chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def blank_to_null(values: pa.Array) -> pa.Array:
    """Trim, and turn the spellings of "no value" into nulls."""
    values = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(values, value_set=_NO_VALUE), pa.scalar(None, pa.string()), values)


def _first_that_fits(values: pa.Array, kinds: list[pa.DataType]) -> pa.Array:
    if not pc.any(pc.match_substring_regex(values, _WRITTEN_AS_ID)).as_py():
        for kind in kinds:
            try:
                return pc.cast(values, kind)
            except pa.ArrowInvalid:
                continue
    if pc.all(pc.is_in(pc.utf8_lower(values), value_set=pa.array(["true", "false", None]))).as_py():
        return pc.cast(values, pa.bool_())
    return values.dictionary_encode()


def _cast(chunk: pa.Array, kind: pa.DataType) -> pa.Array:
    if chunk.type == kind:
        return chunk
    if pa.types.is_null(chunk.type):
        return pa.nulls(len(chunk), kind)
    if kind == TEXT:
        return pc.cast(chunk, pa.string()).dictionary_encode()
    return pc.cast(chunk, kind, safe=False)
