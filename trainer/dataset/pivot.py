"""Labelled series become a table: a row per thing and stamp, a column per metric."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trainer.dataset.batches import check_size
from trainer.dataset.errors import problem
from trainer.dataset.naming import unknown_column
from trainer.dataset.roles import MOST_GROUP_COLUMNS, names_a_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.dataset.labelled import LabelledSeries
    from trainer.dataset.limits import ReadLimits

    IntArray = npt.NDArray[np.int64]
    Group = tuple[str | None, ...]

TIME = "timestamp"


@dataclass(frozen=True)
class Pivot:
    """Columns of equal length: the time, the labels that name a series, those that describe it, metrics."""

    columns: dict[str, pa.ChunkedArray]
    group_columns: list[str]


def pivot(
    series: Sequence[LabelledSeries],
    group_columns: Sequence[str] | None,
    limits: ReadLimits,
    time_column: str = TIME,
) -> Pivot:
    """The table of these series, in the order of its groups and stamps.

    Without `group_columns`, labels that are named like a server tell the rows apart, else those that differ.
    Other labels that are the same throughout a group become columns of text; where one differs within a group
    it goes into the metric's name: `disk_used{mountpoint="/"}`. A sample less than half a step away from one
    of the group's most frequent metric joins that row; of two that join it the later one counts. Raises
    DatasetError.
    """
    if not series:
        raise problem("empty_file", "The file holds no samples.")
    groups = _choose_groups(series, group_columns)
    members: dict[Group, list[LabelledSeries]] = defaultdict(list)
    for one in series:
        members[tuple(one.label(name) for name in groups)].append(one)
    ordered = sorted(members, key=lambda group: [value or "" for value in group])
    names = _metric_names(members)
    static = _static_labels(series, members, groups)
    metrics = list(dict.fromkeys(names[id(one)] for one in series))
    stamps = {group: _Stamps(members[group]) for group in ordered}
    rows = sum(len(each.times) for each in stamps.values())
    check_size(rows, len(metrics) + len(groups) + len(static) + 1, limits)
    counts = np.array([len(stamps[group].times) for group in ordered])
    columns = {time_column: _time_column([stamps[group].times for group in ordered])}
    for place, label in enumerate(groups):
        columns[label] = _text_column([group[place] for group in ordered], counts)
    for label in static:
        columns[label] = _text_column([members[group][0].label(label) for group in ordered], counts)
    if len(columns) + len(metrics) > len({*columns, *metrics}):
        name = next(name for name in metrics if name in columns)
        raise problem("duplicate_column", f"{name} is both a metric and a label; rename one.", column=name)
    for name, values in _metric_columns(ordered, members, names, metrics, stamps, counts).items():
        columns[name] = pa.chunked_array([pa.array(values, from_pandas=True)])
    return Pivot(columns, list(groups))


def _choose_groups(series: Sequence[LabelledSeries], asked: Sequence[str] | None) -> list[str]:
    known = dict.fromkeys(name for one in series for name, _ in one.labels)
    if asked is not None:
        for name in asked:
            if name not in known:
                raise unknown_column(name, list(known))
        return list(asked)
    everywhere = [name for name in known if all(one.label(name) is not None for one in series)]
    likely = [name for name in everywhere if names_a_series(name)]
    return _splitting(series, likely, least=1) if likely else _splitting(series, everywhere, least=0)


def _splitting(series: Sequence[LabelledSeries], names: list[str], *, least: int) -> list[str]:
    """The first `least` of the labels, then each that splits the groups further; at most 3."""
    chosen: list[str] = []
    count = 1
    for name in names:
        found = len({tuple(one.label(each) for each in (*chosen, name)) for one in series})
        if len(chosen) < least or found > count:
            chosen.append(name)
            count = found
        if len(chosen) == MOST_GROUP_COLUMNS:
            break
    return chosen


def _metric_names(members: dict[Group, list[LabelledSeries]]) -> dict[int, str]:
    """The column of each series, by its id: the metric with the labels that differ within a group."""
    differing: dict[str, set[str]] = defaultdict(set)
    for group in members.values():
        first: dict[str, dict[str, str]] = {}
        for one in group:
            labels = dict(one.labels)
            known = first.setdefault(one.metric, labels)
            if labels != known:
                differing[one.metric] |= {name for name, _ in labels.items() ^ known.items()}
    names = {}
    for group in members.values():
        for one in group:
            told = [f'{name}="{value}"' for name, value in one.labels if name in differing[one.metric]]
            names[id(one)] = one.metric + (f"{{{','.join(told)}}}" if told else "")
    return names


def _static_labels(
    series: Sequence[LabelledSeries], members: dict[Group, list[LabelledSeries]], groups: Sequence[str]
) -> list[str]:
    """Labels, beside the groups' own, that every series has and that are the same throughout a group."""
    candidates = [
        name
        for name, _ in series[0].labels
        if name not in groups and all(one.label(name) is not None for one in series)
    ]
    return [
        name
        for name in candidates
        if all(len({one.label(name) for one in group}) == 1 for group in members.values())
    ]


class _Stamps:
    """The rows of one group, and where its samples go."""

    def __init__(self, series: list[LabelledSeries]) -> None:
        leading = max(series, key=lambda one: len(one.times)).times
        self._moved = [_towards(one.times, leading) for one in series]
        self.times = leading
        if not all(np.array_equal(times, leading) for times in self._moved):
            self.times = np.unique(np.concatenate(self._moved))

    def places(self) -> list[IntArray | None]:
        """For each series the rows of its samples, None where it has one in each."""
        return [
            None if np.array_equal(times, self.times) else np.searchsorted(self.times, times)
            for times in self._moved
        ]


def _towards(times: IntArray, leading: IntArray) -> IntArray:
    """Stamps at the nearest of the leading ones that is less than half a step away, else as they are."""
    if len(leading) < 2 or np.array_equal(times, leading):
        return times
    reach = int(np.median(np.diff(leading))) / 2
    after = np.clip(np.searchsorted(leading, times), 1, len(leading) - 1)
    nearer_before = times - leading[after - 1] < leading[after] - times
    nearest = leading[after - nearer_before]
    moved: IntArray = np.where(np.abs(nearest - times) < reach, nearest, times)
    return moved


def _time_column(times: list[IntArray]) -> pa.ChunkedArray:
    micros = pa.array(np.concatenate(times))
    return pa.chunked_array([micros.view(pa.timestamp("us", "UTC"))])


def _text_column(values: list[str | None], counts: npt.NDArray[np.int64]) -> pa.ChunkedArray:
    known = sorted({value for value in values if value is not None})
    places = {value: place for place, value in enumerate(known)}
    codes = np.repeat([-1 if value is None else places[value] for value in values], counts).astype(np.int32)
    indices = pa.array(codes, mask=codes < 0)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array(known, pa.string()))])


def _metric_columns(
    ordered: list[Group],
    members: dict[Group, list[LabelledSeries]],
    names: dict[int, str],
    metrics: list[str],
    stamps: dict[Group, _Stamps],
    counts: npt.NDArray[np.int64],
) -> dict[str, npt.NDArray[np.float64]]:
    columns = {name: np.full(int(counts.sum()), np.nan) for name in metrics}
    start = 0
    for group in ordered:
        here = stamps[group]
        for one, places in zip(members[group], here.places(), strict=True):
            rows = slice(start, start + len(here.times)) if places is None else start + places
            columns[names[id(one)]][rows] = one.values
        start += len(here.times)
    return columns
