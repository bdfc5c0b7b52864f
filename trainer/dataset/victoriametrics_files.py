"""What VictoriaMetrics writes at `/api/v1/export`: one series, or a part of one, a line.

Source: https://docs.victoriametrics.com/victoriametrics/#how-to-export-data-in-json-line-format.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.dataset.errors import problem
from trainer.dataset.labelled import NAMELESS, SeriesCollector
from trainer.dataset.streams import open_text, whole_lines

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.dataset.labelled import FloatArray, LabelledSeries
    from trainer.dataset.limits import ReadLimits

_NAME = "__name__"


def read_victoriametrics(path: Path, limits: ReadLimits) -> tuple[list[LabelledSeries], list[str]]:
    """Every series of the file, and nothing left out. One line at a time is held as JSON.

    Raises DatasetError with the line.
    """
    collector = SeriesCollector(limits)
    lines_of_series = replace(limits, max_line_bytes=limits.max_series_bytes)
    with open_text(path, gzipped=False, limits=limits) as file:
        for lines_before, chunk in whole_lines(file, lines_of_series):
            for row, line in enumerate(chunk.split(b"\n"), start=lines_before + 1):
                if line.strip():
                    _add(collector, line, row)
    return collector.finish(), []


def _add(collector: SeriesCollector, line: bytes, row: int) -> None:
    content = _parse(line, row)
    labels = content.get("metric")
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise problem("unreadable_file", 'A line has no "metric" with its labels.', row=row)
    metric = labels.pop(_NAME, NAMELESS)
    values = _numbers(content, "values", metric, row)
    millis = _numbers(content, "timestamps", metric, row)
    if len(values) != len(millis):
        raise problem(
            "unreadable_file",
            f"A line has {len(values):,} values and {len(millis):,} timestamps.",
            column=metric,
            row=row,
        )
    collector.add(metric, labels, millis * 1000, values, row=row)


def _parse(line: bytes, row: int) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise problem("unreadable_file", "A line is not valid JSON in UTF-8.", row=row) from error
    if not isinstance(content, dict):
        raise problem("unreadable_file", "A line is not a JSON object.", row=row)
    return content


def _numbers(content: dict[str, Any], name: str, metric: str, row: int) -> FloatArray:
    """A list of numbers; null stands for no value, and infinities are written as text."""
    try:
        numbers = np.array(content[name], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        numbers = np.empty((0, 0))
    if numbers.ndim != 1:
        raise problem("unreadable_file", f'The "{name}" of a line are no numbers.', column=metric, row=row)
    return numbers
