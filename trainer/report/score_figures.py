"""How good the forecasts are: examples with intervals, scores by step, coverage."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer.evaluation.intervals import intervals, place_of
from trainer.report.drawing import figure_of, floats, legend, panels, style, title
from trainer.report.theme import light

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trainer.report.inputs import ExampleForecast

_COLUMNS = 2
_HISTORY_PER_STEP_AHEAD = 3
_DATE_TICKS = 4
_SECONDS_PER_DAY = 86_400
_PALEST = 0.12
KINDS = {
    "model": "model, as published",
    "model_raw": "model, before calibration",
    "last_value": "last value",
    "seasonal_naive": "seasonal-naive",
}
_COLOR_OF_KIND = {
    "model": "model",
    "model_raw": "model-raw",
    "last_value": "last-value",
    "seasonal_naive": "seasonal-naive",
}


def forecasts(examples: Sequence[ExampleForecast], quantiles: Sequence[float]) -> Figure:
    """Windows of one target: history, what happened, the median and the intervals around it."""
    rows = -(-len(examples) // _COLUMNS)
    figure = figure_of(height=0.3 + 2.4 * rows)
    for place, example in enumerate(examples, start=1):
        axis = figure.add_subplot(rows, min(_COLUMNS, len(examples)), place)
        style(axis)
        _draw_forecast(axis, example, quantiles)
        title(axis, example.series)
    legend(figure, figure.axes[0])
    return figure


def by_horizon(target: dict[str, Any], kinds: Sequence[str]) -> Figure:
    """q-risk and P50 MAE of the model and its rivals at each step of the horizon."""
    figure, axes = panels(2, height=2.7)
    for axis, (name, label) in zip(axes, (("q_risk", "q-risk"), ("mae", "MAE of the median")), strict=True):
        for kind in kinds:
            values = floats(_scores(target, kind)["by_horizon"][name])
            steps = np.arange(1, len(values) + 1)
            marker = "o" if len(values) == 1 else None
            axis.plot(steps, values, color=_color(kind), label=KINDS[kind], linewidth=1.5, marker=marker)
        title(axis, label)
        axis.set_xlabel("steps ahead")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes[0])
    return figure


def coverages(target: dict[str, Any], kinds: Sequence[str]) -> Figure:
    """How much of what happened each interval held, against what it promises."""
    names = list(target["model"]["intervals"])
    figure = figure_of(height=0.9 + 0.5 * len(names))
    axis = figure.add_subplot()
    style(axis)
    for row, name in enumerate(names):
        nominal = target["model"]["intervals"][name]["nominal"]
        axis.plot(
            [nominal, nominal],
            [row - 0.4, row + 0.4],
            color=light("ink"),
            linewidth=1.5,
            label=None if row else "what the interval promises",
        )
        for offset, kind in zip(np.linspace(-0.27, 0.27, len(kinds)), kinds, strict=True):
            value = _scores(target, kind)["intervals"][name]["coverage"]
            label = None if row else KINDS[kind]
            place = [np.nan if value is None else value]
            axis.plot(place, [row + offset], "o", color=_color(kind), label=label, markersize=6)
    axis.set_yticks(range(len(names)), [f"{name} % interval" for name in names])
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    title(axis, "share of what happened that lay inside")
    legend(figure, axis)
    return figure


def _draw_forecast(axis: Axes, example: ExampleForecast, quantiles: Sequence[float]) -> None:
    shown = _HISTORY_PER_STEP_AHEAD * len(example.times)
    past, ahead = example.history_times[-shown:] / 1e6, example.times / 1e6
    single = "o" if len(ahead) == 1 else None
    for place, pair in enumerate(intervals(quantiles)):
        ends = (example.quantiles[:, pair.low], example.quantiles[:, pair.high])
        label = f"{pair.name} % interval"
        if single:
            axis.vlines(ahead, *ends, color=light("model"), alpha=0.3, linewidth=4 + 3 * place, label=label)
        else:
            shade = _PALEST + _PALEST * place
            axis.fill_between(ahead, *ends, color=light("model"), alpha=shade, linewidth=0, label=label)
    median = example.quantiles[:, place_of(quantiles, 0.5) or 0]
    axis.plot(ahead, median, color=light("model"), linewidth=1.5, marker=single, label="median forecast")
    actual = np.full(len(ahead), np.nan) if example.actual is None else example.actual
    happened = np.concatenate([example.history[-shown:], actual])
    axis.plot(np.concatenate([past, ahead]), happened, color=light("ink"), linewidth=1, label="what happened")
    axis.axvline(ahead[0], color=light("quiet"), linewidth=0.8, linestyle=":")
    ticks = np.linspace(past[0] if len(past) else ahead[0], ahead[-1], _DATE_TICKS)
    dated = ticks[-1] - ticks[0] > _SECONDS_PER_DAY
    stamps = [datetime.fromtimestamp(tick, UTC) for tick in ticks]
    labels = [
        f"{stamp:%d %b %H:%M}" if dated or not place else f"{stamp:%H:%M}"
        for place, stamp in enumerate(stamps)
    ]
    axis.set_xticks(ticks, labels)
    drawn = axis.get_xticklabels()
    drawn[0].set_horizontalalignment("left")
    drawn[-1].set_horizontalalignment("right")


def _scores(target: dict[str, Any], kind: str) -> dict[str, Any]:
    scores: dict[str, Any] = target[kind] if kind in target else target["rivals"][kind]
    return scores


def _color(kind: str) -> str:
    return light(_COLOR_OF_KIND[kind])
