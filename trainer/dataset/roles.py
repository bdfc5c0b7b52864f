"""Which column is the clock and which columns name a series, where the mapping does not say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from trainer.dataset.clock import iso_share, looks_like_an_epoch
from trainer.dataset.columns import TEXT
from trainer.dataset.errors import listed, problem
from trainer.dataset.keys import combine, factorise, share_of_duplicates
from trainer.dataset.naming import mapped_name, unknown_column

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.dataset.keys import Codes
    from trainer.dataset.schema import DatasetMapping

_TIME_NAMES = {
    "time", "timestamp", "ts", "t", "date", "datetime", "ds", "epoch", "unixtime", "clock",
    "timestampms", "timestampus", "timestampns", "timems", "epochms", "epochseconds", "eventtime",
}  # fmt: skip
_TIME_ENDINGS = ("time", "timestamp", "ts", "at", "epoch", "date", "ms")
_SERIES_NAMES = {
    "server", "host", "hostname", "instance", "node", "vm", "virtualmachine", "machine", "device", "pod",
    "container", "series", "unique", "item", "entity", "sensor", "asset", "servername", "nodename", "vmname",
    "instancename",
    "serverid", "hostid", "vmid", "nodeid", "machineid", "deviceid", "podid", "containerid", "instanceid",
}  # fmt: skip
_ID_WORDS = {"id", "ids", "name", "key", "uuid", "guid"}
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
MOST_GROUP_COLUMNS = 3
# In the metadata of a table that was reshaped: its group columns as a JSON list, or null.
GROUPS_KEY = b"group_columns"
_SAMPLE = 200
_FEW_DUPLICATES = 0.01
_MANY_DUPLICATES = 0.5


def find_time_column(table: pa.Table, mapping: DatasetMapping) -> str:
    """The mapping's time column, or the only one that looks like one. Raises DatasetError."""
    if mapping.time_column is not None:
        return _existing(table, mapped_name(mapping, mapping.time_column))
    names: list[str] = table.column_names
    named = [name for name in names if "".join(words(name)) in _TIME_NAMES]
    found = [name for name in names if _is_clock(table[name], certain=name in named)]
    found = found or [name for name in names if _is_epoch(name, table[name])] or named
    if not found:
        raise problem(
            "no_time_column",
            f"No column holds times; the file has {listed(table.column_names)}. Add one with ISO 8601 stamps "
            "or epoch seconds, or name it in mapping.time_column.",
        )
    if len(found) > 1:
        raise problem(
            "ambiguous_time_column",
            f"Several columns hold times: {listed(found)}. Name the one to use in mapping.time_column.",
        )
    return found[0]


def find_group_columns(
    table: pa.Table, mapping: DatasetMapping, time_column: str, micros: npt.NDArray[np.int64]
) -> list[str]:
    """The mapping's group columns; else those a reshaped table was made with; else those named like a server
    that tell series apart; else the text columns without which stamps repeat. At most 3. Raises DatasetError.
    """
    if mapping.group_columns is not None:
        names = [mapped_name(mapping, name) for name in mapping.group_columns]
        return [_existing(table, name) for name in names]
    told: list[str] | None = json.loads((table.schema.metadata or {}).get(GROUPS_KEY, b"null"))
    if told is not None:
        return told
    search = _GroupSearch(table, micros)
    candidates = [name for name in table.column_names if name != time_column]
    search.add_named([name for name in candidates if _can_name_a_series(name, table[name].type)])
    search.add_text([name for name in candidates if table[name].type == TEXT])
    return search.chosen


def refuse_duplicate_rows(duplicates: int, rows: int, group_columns: list[str]) -> None:
    """Raise DatasetError when most rows share series and stamp: then the series are not told apart."""
    if rows and duplicates / rows > _MANY_DUPLICATES:
        known = f"within {listed(group_columns)}" if group_columns else "and no column names the server"
        raise problem(
            "duplicate_rows",
            f"{duplicates:,} of {rows:,} rows repeat a time stamp {known}. Name the columns that tell the "
            "series apart in mapping.group_columns.",
        )


def words(name: str) -> list[str]:
    """A column name's words in lower case: `diskIO_percent` gives disk, io, percent."""
    return [word.lower() for word in _WORDS.findall(name)]


class _GroupSearch:
    def __init__(self, table: pa.Table, micros: npt.NDArray[np.int64]) -> None:
        self._table = table
        self._times = micros
        self._codes: Codes | None = None
        self.chosen: list[str] = []

    def add_named(self, names: list[str]) -> None:
        """Take each that splits the series further; the first in any case."""
        for name in names:
            codes = self._with(name)
            if codes is not None and (self._codes is None or codes.count > self._codes.count):
                self._choose(name, codes)

    def add_text(self, names: list[str]) -> None:
        """Take those that make repeated stamps at least half as many, the best first."""
        repeated = share_of_duplicates(self._codes, self._times)
        while repeated > _FEW_DUPLICATES and len(self.chosen) < MOST_GROUP_COLUMNS:
            options = {name: self._with(name) for name in names if name not in self.chosen}
            usable = {name: codes for name, codes in options.items() if codes is not None}
            shares = {name: share_of_duplicates(codes, self._times) for name, codes in usable.items()}
            best = min(shares, key=lambda name: shares[name], default=None)
            if best is None or shares[best] > repeated / 2:
                return
            repeated = shares[best]
            self._choose(best, usable[best])

    def _with(self, name: str) -> Codes | None:
        """The chosen columns with one more; None for a row number, which would make each row a series."""
        if len(self.chosen) == MOST_GROUP_COLUMNS:
            return None
        codes = combine(self._codes, factorise(self._table[name]))
        return codes if codes.count <= max(1, self._table.num_rows // 2) else None

    def _choose(self, name: str, codes: Codes) -> None:
        self.chosen.append(name)
        self._codes = codes


def _existing(table: pa.Table, name: str) -> str:
    if name not in table.column_names:
        raise unknown_column(name, table.column_names)
    return name


def _is_clock(column: pa.ChunkedArray, *, certain: bool) -> bool:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return True
    if kind == TEXT:
        sample = _sample_text(column)
        return len(sample) > 0 and iso_share(sample) >= 1 / 2
    return certain and (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_epoch(name: str, column: pa.ChunkedArray) -> bool:
    parts = words(name)
    if not parts or parts[-1] not in _TIME_ENDINGS:
        return False
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return False
    return looks_like_an_epoch(column.slice(0, _SAMPLE).to_numpy().astype(np.float64))


def _sample_text(column: pa.ChunkedArray) -> pa.Array:
    return column.slice(0, _SAMPLE).combine_chunks().dictionary_decode().drop_null()


def _can_name_a_series(name: str, kind: pa.DataType) -> bool:
    return (kind == TEXT or pa.types.is_integer(kind)) and names_a_series(name)


def names_a_series(name: str) -> bool:
    """Whether a column or label of this name tells servers, or parts of them, apart."""
    parts = words(name)
    core = [word for word in parts if word not in _ID_WORDS]
    return "".join(core) in _SERIES_NAMES or (bool(parts) and not core)
