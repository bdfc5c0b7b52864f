"""Carries out a preset: on labelled series, and on the columns of a table."""

from __future__ import annotations

from collections import defaultdict
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from trainer.dataset.column_report import clean_floats
from trainer.dataset.errors import listed, problem
from trainer.dataset.labelled import LabelledSeries
from trainer.dataset.presets import PRESETS
from trainer.dataset.rates import growth_per_second, rates_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from trainer.dataset.errors import DatasetError
    from trainer.dataset.labelled import Labels
    from trainer.dataset.layout import Layout
    from trainer.dataset.presets import Combine, Derivation, FloatArray
    from trainer.dataset.schema import PresetName

    Samples = tuple[npt.NDArray[np.int64], FloatArray]


def derive_series(series: Sequence[LabelledSeries], preset: PresetName) -> list[LabelledSeries]:
    """What the preset makes of the metrics it knows, then those it does not know. Raises DatasetError."""
    by_metric: dict[str, list[LabelledSeries]] = defaultdict(list)
    for one in series:
        by_metric[one.metric].append(one)
    made: list[LabelledSeries] = []
    used: set[str] = set()
    for rule in _applicable(preset, by_metric):
        made += _derive(rule, [by_metric[name] for name in rule.inputs])
        used.update(rule.inputs)
    return made + [one for one in series if one.metric not in used]


def derive_columns(table: pa.Table, layout: Layout, preset: PresetName) -> pa.Table:
    """The same of a table whose columns are metrics; nothing tells their labels. Raises DatasetError."""
    numeric = [field.name for field in table.schema if _is_number(field.type)]
    used: set[str] = set()
    for rule in [rule for rule in _applicable(preset, numeric) if not rule.where]:
        inputs = [clean_floats(table[name]) for name in rule.inputs]
        if rule.counters:
            inputs = [rates_in(layout, values) for values in inputs]
        column = pa.chunked_array([pa.array(_finite(rule, inputs), from_pandas=True)])
        table = table.append_column(rule.name, column)
        used.update(rule.inputs)
    return table.drop_columns(sorted(used))


def _applicable(preset: PresetName, metrics: Collection[str]) -> list[Derivation]:
    """The first rule for each column whose inputs are there; none for a column that is there already."""
    rules: dict[str, Derivation] = {}
    for rule in PRESETS[preset]:
        if rule.name not in metrics and all(name in metrics for name in rule.inputs):
            rules.setdefault(rule.name, rule)
    if not rules and not any(rule.name in metrics for rule in PRESETS[preset]):
        raise _nothing_known(preset, metrics)
    return list(rules.values())


def _nothing_known(preset: PresetName, metrics: Collection[str]) -> DatasetError:
    known = dict.fromkeys(name for rule in PRESETS[preset] for name in rule.inputs)
    return problem(
        "bad_mapping",
        f"The preset {preset} knows none of the metrics of this file: it needs {listed(known)}; the file has "
        f"{listed(metrics)}.",
    )


def _derive(rule: Derivation, inputs: list[list[LabelledSeries]]) -> Iterable[LabelledSeries]:
    things: dict[Labels, dict[Labels, dict[int, LabelledSeries]]] = defaultdict(lambda: defaultdict(dict))
    for place, candidates in enumerate(inputs):
        for one in candidates:
            labels = dict(one.labels)
            if not _fits(labels, rule.where) or any(
                labels.get(name) == no for name, no in rule.without.items()
            ):
                continue
            thing = tuple(pair for pair in one.labels if pair[0] not in rule.over)
            part = tuple(pair for pair in one.labels if pair[0] in rule.over)
            things[thing][part][place] = one
    for thing, parts in things.items():
        whole = {part: found for part, found in parts.items() if len(found) == len(inputs)}
        preferred = [found for part, found in whole.items() if _fits(dict(part), rule.prefer)]
        samples = [_compute(rule, list(found.values())) for found in preferred or whole.values()]
        times, values = _combined(samples, rule.combine)
        if len(times):
            yield LabelledSeries(rule.name, thing, times, values)


def _fits(labels: Mapping[str, str], asked: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in asked.items())


def _compute(rule: Derivation, series: list[LabelledSeries]) -> Samples:
    """Where all inputs have a sample and the formula has a value."""
    times = reduce(np.intersect1d, [one.times for one in series])
    inputs = [one.values[np.searchsorted(one.times, times)] for one in series]
    if rule.counters:
        inputs = [growth_per_second(values, times) for values in inputs]
    values = _finite(rule, inputs)
    there = ~np.isnan(values)
    return times[there], values[there]


def _finite(rule: Derivation, inputs: list[FloatArray]) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        values = rule.formula(*inputs)
    return np.where(np.isfinite(values), values, np.nan)


def _combined(samples: list[Samples], how: Combine) -> Samples:
    """At each stamp of any, the mean, sum or maximum of those that have a value there."""
    if len(samples) == 1:
        return samples[0]
    if not samples:
        return np.zeros(0, np.int64), np.zeros(0)
    times = np.unique(np.concatenate([stamps for stamps, _ in samples]))
    result = np.full(len(times), -np.inf if how == "max" else 0.0)
    counts = np.zeros(len(times))
    for stamps, values in samples:
        places = np.searchsorted(times, stamps)
        result[places] = np.maximum(result[places], values) if how == "max" else result[places] + values
        counts[places] += 1
    return times, result / counts if how == "mean" else result


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
