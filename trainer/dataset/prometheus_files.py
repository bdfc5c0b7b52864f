"""What Prometheus answers to `query_range`: a matrix, alone or in its envelope, or several answers in a row.

Sources: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries and #range-vectors.
"""

from __future__ import annotations

from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import ijson
import numpy as np

from trainer.dataset.errors import DatasetError, problem
from trainer.dataset.labelled import NAMELESS, SeriesCollector
from trainer.dataset.shallow_json import PIECE_BYTES, ShallowJson

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.dataset.labelled import FloatArray, LabelledSeries
    from trainer.dataset.limits import ReadLimits

_NAME = "__name__"
# Where the series stand: in the answer, in its `data`, or in a list of their own.
_PLACES = ("data.result", "result", "")
_MOST_EVENTS_BEFORE = 1000
_PIECES = {"buf_size": PIECE_BYTES}
_EXPECTED = 'send what /api/v1/query_range answers: {"status":"success","data":{"resultType":"matrix",…}}'


def read_prometheus(path: Path, limits: ReadLimits) -> tuple[list[LabelledSeries], list[str]]:
    """Every series, and the metrics left out because their samples are histograms.

    One series at a time is held as JSON. Raises DatasetError; its row is the place of the series in the file.
    """
    collector, left_out = SeriesCollector(limits), set()
    try:
        with path.open("rb") as file:
            place = _find_series(file)
            file.seek(0)
            prefix = f"{place}.item" if place else "item"
            items = ijson.items(ShallowJson(file), prefix, multiple_values=True, use_float=True, **_PIECES)
            for number, item in enumerate(items, start=1):
                metric, labels = _identity(item, number)
                if "histograms" in item and "values" not in item:
                    left_out.add(metric)
                    continue
                times, values = _samples(item, metric, number)
                collector.add(metric, labels, times, values, row=number)
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise _broken(error) from error
    return collector.finish(), sorted(left_out)


def _find_series(file: IO[bytes]) -> str:
    said: dict[str, str] = {}
    for place, event, value in islice(
        ijson.parse(ShallowJson(file), multiple_values=True, **_PIECES), _MOST_EVENTS_BEFORE
    ):
        if event == "start_array" and place in _PLACES:
            _refuse_other_results(said)
            return str(place)
        if event == "string":
            said[place.rpartition(".")[2]] = value
    _refuse_other_results(said)
    raise problem("unsupported_format", f"The file holds no range of samples; {_EXPECTED}.")


def _refuse_other_results(said: dict[str, str]) -> None:
    """An error of Prometheus and an instant query's answer have the same envelope."""
    if said.get("status") == "error":
        why = said.get("error", "no reason")[:200]
        raise problem("unsupported_format", f"The file is an error that Prometheus answered: {why}")
    kind = said.get("resultType", "matrix")
    if kind != "matrix":
        raise problem(
            "unsupported_format", f"The file holds a {kind[:20]}, not a range of samples; {_EXPECTED}."
        )


def _identity(item: Any, number: int) -> tuple[str, dict[str, str]]:
    labels = item.get("metric") if isinstance(item, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise problem("unreadable_file", f'Series {number} has no "metric" with its labels.', row=number)
    return labels.pop(_NAME, NAMELESS), labels


def _samples(item: dict[str, Any], metric: str, number: int) -> tuple[FloatArray, FloatArray]:
    """Stamps in epoch microseconds, and values."""
    pairs = item.get("values")
    if not isinstance(pairs, list):
        raise problem("unreadable_file", f'Series {number} has no "values".', column=metric, row=number)
    try:
        seconds = np.fromiter((second for second, _ in pairs), np.float64, len(pairs))
        values = np.fromiter((float(value) for _, value in pairs), np.float64, len(pairs))
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad_sample(pairs, metric, number) from error
    return np.rint(seconds * 1e6), values


def _bad_sample(pairs: Sequence[Any], metric: str, number: int) -> DatasetError:
    place = next((place for place, pair in enumerate(pairs, start=1) if not _is_sample(pair)), 1)
    return problem(
        "unreadable_file",
        f"Sample {place:,} of series {number} is not a time and a number: {str(pairs[place - 1])[:60]}.",
        column=metric,
        row=number,
    )


def _is_sample(pair: Any) -> bool:
    try:
        second, value = pair
        float(second), float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _broken(error: Exception) -> DatasetError:
    cut_off = isinstance(error, ijson.IncompleteJSONError) and "premature" in str(error)
    what = "ends in the middle: it was cut off" if cut_off else "is not valid JSON"
    return problem("unreadable_file", f"The file {what}; {_EXPECTED}.")
