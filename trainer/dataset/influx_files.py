"""InfluxDB line protocol, as Telegraf writes it: `measurement,tag=… field=…,field=… timestamp`.

Source: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/. A line break within a quoted
text field, which that page allows, is not read.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trainer.dataset.clock import from_epoch
from trainer.dataset.errors import DatasetError, problem
from trainer.dataset.labelled import SeriesCollector
from trainer.dataset.streams import open_text, whole_lines

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.labelled import LabelledSeries
    from trainer.dataset.limits import ReadLimits

# Alternatives that begin differently, repeated without going back: time is linear in the line's length.
_KEY = rb"(?:[^\\ ]|\\.)++"
_FIELDS = rb'(?:[^\\" ]|\\.|"(?:[^"\\]|\\.)*+")++'
_LINE = re.compile(rb"(" + _KEY + rb") +(" + _FIELDS + rb")(?: +(-?[0-9]+))?\s*")
_PART = re.compile(rb"(?:[^\\,]|\\.)++")
_FIELD = re.compile(rb'((?:[^\\=,]|\\.)++)=("(?:[^"\\]|\\.)*+"|[^",]++)(?:,|$)')
_ESCAPED = re.compile(r"\\([,= ])")
_FLAGS = dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0) | dict.fromkeys(
    (b"f", b"F", b"false", b"False", b"FALSE"), 0.0
)
_WHOLE = (b"i", b"u")


@dataclass
class _Point:
    """A measurement with its tags, and the samples of each of its fields."""

    measurement: str
    tags: dict[str, str]
    row: int
    fields: dict[bytes, tuple[array[int], array[float]]] = field(default_factory=dict)


def read_influx(path: Path, limits: ReadLimits) -> tuple[list[LabelledSeries], list[str]]:
    """Every field that holds numbers or flags as the metric `measurement_field`, and the fields of text.

    Stamps may be nanoseconds (the default of the protocol) or coarser, told by their size. Raises
    DatasetError with the line.
    """
    points: dict[bytes, _Point] = {}
    left_out: set[str] = set()
    samples = 0
    with open_text(path, gzipped=False, limits=limits) as file:
        for lines_before, chunk in whole_lines(file, limits):
            for row, line in enumerate(chunk.split(b"\n"), start=lines_before + 1):
                if line.strip() and not line.startswith(b"#"):
                    samples += _read_line(line, row, points, left_out)
            _check_samples(samples, limits)
    collector = SeriesCollector(limits)
    for point in points.values():
        _collect(collector, point)
    return collector.finish(), sorted(left_out)


def _check_samples(samples: int, limits: ReadLimits) -> None:
    if samples > limits.max_cells:
        raise problem("too_many_rows", f"The file holds more than {limits.max_cells:,} samples; send less.")


def _read_line(line: bytes, row: int, points: dict[bytes, _Point], left_out: set[str]) -> int:
    """Append the line's samples; how many fields it has."""
    parts = line.split(b" ")
    is_plain = len(parts) == 3 and b"\\" not in line and b'"' not in line
    key, fields, stamp = parts if is_plain else _split(line, row)
    point = points.get(key)
    if point is None:
        point = points[key] = _point(key, row)
    try:
        time = int(stamp)
        pairs = [pair.split(b"=") for pair in fields.split(b",")] if is_plain else _fields(fields)
        for name, text in pairs:
            value = _number(text)
            if value is None:
                left_out.add(_metric(point, name))
                continue
            samples = point.fields.get(name)
            if samples is None:
                samples = point.fields[name] = (array("q"), array("d"))
            samples[0].append(time)
            samples[1].append(value)
    except (ValueError, OverflowError) as error:
        raise _bad_field(point, fields, stamp, row) from error
    return len(pairs)


def _split(line: bytes, row: int) -> tuple[bytes, bytes, bytes]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise problem(
            "unreadable_file",
            "A line is not in line protocol: measurement,tag=value field=1.5 1767225600000000000.",
            row=row,
        )
    key, fields, stamp = found.groups()
    if stamp is None:
        raise problem("bad_time_value", "A line has no timestamp; a dataset needs one on each.", row=row)
    return key, fields, stamp


def _point(key: bytes, row: int) -> _Point:
    try:
        measurement, *tags = [part.decode() for part in _PART.findall(key)]
    except UnicodeDecodeError as error:
        raise problem("unreadable_file", "A line is not UTF-8; save the file as UTF-8.", row=row) from error
    named = [re.split(r"(?<!\\)=", tag, maxsplit=1) for tag in tags]
    if any(len(pair) != 2 for pair in named):
        raise problem("unreadable_file", "A tag of a line has no value.", row=row)
    return _Point(_plain(measurement), {_plain(name): _plain(value) for name, value in named}, row)


def _fields(text: bytes) -> list[list[bytes]]:
    """Raises ValueError where the text is not a list of fields."""
    pairs, end = [], 0
    while end < len(text):
        found = _FIELD.match(text, end)
        if found is None:
            raise ValueError("not a field")
        pairs.append([found[1], found[2]])
        end = found.end()
    return pairs


def _number(text: bytes) -> float | None:
    """None for a text in quotes. Raises ValueError."""
    if text.startswith(b'"'):
        return None
    if text.endswith(_WHOLE):
        return float(int(text[:-1]))
    flag = _FLAGS.get(text)
    return float(text) if flag is None else flag


def _bad_field(point: _Point, fields: bytes, stamp: bytes, row: int) -> DatasetError:
    if not -(2**63) <= _as_int(stamp) < 2**63:
        return problem("bad_time_value", f"{_shown(stamp)} is not a timestamp.", row=row)
    for pair in fields.split(b","):
        name, separator, text = pair.partition(b"=")
        if not separator:
            break
        try:
            _number(text)
        except ValueError:
            return problem(
                "unreadable_file",
                f"{_shown(text)} is not a value: write 1.5, 1i, true or a text in double quotes.",
                column=_metric(point, name),
                row=row,
            )
    return problem("unreadable_file", f"{_shown(fields)} is not a list of fields.", row=row)


def _as_int(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        return 2**63


def _collect(collector: SeriesCollector, point: _Point) -> None:
    for name, (times, values) in point.fields.items():
        metric = _metric(point, name)
        try:
            micros = from_epoch(np.array(times, np.int64), metric)
        except DatasetError as error:
            raise problem(error.problem.code, error.problem.detail, column=metric, row=point.row) from error
        collector.add(metric, point.tags, micros, np.array(values, np.float64), row=point.row)


def _metric(point: _Point, field_name: bytes) -> str:
    return f"{point.measurement}_{_plain(field_name.decode(errors='replace'))}"


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _shown(text: bytes) -> str:
    return repr(text[:60].decode(errors="replace"))
