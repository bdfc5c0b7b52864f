"""The report's pictures, on matplotlib's object interface: no global state, no window."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer.evaluation.intervals import intervals, place_of
from trainer.report.theme import light

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from trainer.report.inputs import ExampleForecast, Interpretation, MetricPoint

_WIDTH = 9.0
_MOST_POINTS = 1000
_MOST_BARS = 15
_COLUMNS = 2
_HISTORY_PER_STEP_AHEAD = 3
_FEW_POINTS = 40
_DATE_TICKS = 4
_SECONDS_PER_DAY = 86_400
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


def losses(points: Sequence[MetricPoint], best_step: int | None) -> Figure | None:
    """Training loss, in the scaled space it is taken in, beside validation loss in original units."""
    panels = [("train_loss", "training loss (scaled)"), ("val_loss", "validation loss (original units)")]
    curves = [(label, _curve(points, name)) for name, label in panels]
    drawn = [(label, curve) for label, curve in curves if len(curve)]
    if not drawn:
        return None
    figure, axes = _panels(len(drawn), height=2.6)
    for axis, (label, curve) in zip(axes, drawn, strict=True):
        _plot(axis, curve, "model")
        _title(axis, label)
        if best_step is not None and label.startswith("validation"):
            axis.axvline(best_step, color=light("good"), linewidth=1, linestyle="--")
            axis.text(
                best_step,
                0.97,
                " best",
                color=light("good"),
                fontsize=8,
                va="top",
                transform=axis.get_xaxis_transform(),
            )
    return figure


def rate(points: Sequence[MetricPoint]) -> Figure | None:
    """Learning rate and gradient norm over the optimizer steps."""
    panels = [("learning_rate", "learning rate"), ("grad_norm", "gradient norm, before clipping")]
    drawn = [(label, curve) for name, label in panels if len(curve := _curve(points, name))]
    if not drawn:
        return None
    figure, axes = _panels(len(drawn), height=2.2)
    for axis, (label, curve) in zip(axes, drawn, strict=True):
        _plot(axis, curve, "model")
        _title(axis, label)
        axis.set_ylim(bottom=0)
    return figure


def forecasts(examples: Sequence[ExampleForecast], quantiles: Sequence[float]) -> Figure:
    """Windows of one target: history, what happened, the median and the intervals around it."""
    rows = -(-len(examples) // _COLUMNS)
    figure = _figure(height=0.3 + 2.4 * rows)
    for place, example in enumerate(examples, start=1):
        axis = figure.add_subplot(rows, min(_COLUMNS, len(examples)), place)
        _style(axis)
        _draw_forecast(axis, example, quantiles)
        _title(axis, example.series)
    _legend(figure, figure.axes[0])
    return figure


def by_horizon(target: dict[str, Any], kinds: Sequence[str]) -> Figure:
    """q-risk and P50 MAE of the model and its rivals at each step of the horizon."""
    figure, axes = _panels(2, height=2.7)
    for axis, (name, label) in zip(axes, (("q_risk", "q-risk"), ("mae", "MAE of the median")), strict=True):
        for kind in kinds:
            values = _floats(_scores(target, kind)["by_horizon"][name])
            steps = np.arange(1, len(values) + 1)
            marker = "o" if len(values) == 1 else None
            axis.plot(steps, values, color=_color(kind), label=KINDS[kind], linewidth=1.5, marker=marker)
        _title(axis, label)
        axis.set_xlabel("steps ahead")
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes[0])
    return figure


def coverages(target: dict[str, Any], kinds: Sequence[str]) -> Figure:
    """How much of what happened each interval held, against what it promises."""
    names = list(target["model"]["intervals"])
    figure = _figure(height=0.9 + 0.5 * len(names))
    axis = figure.add_subplot()
    _style(axis)
    for row, name in enumerate(names):
        nominal = target["model"]["intervals"][name]["nominal"]
        axis.plot([nominal, nominal], [row - 0.4, row + 0.4], color=light("ink"), linewidth=1.5)
        for offset, kind in zip(np.linspace(-0.27, 0.27, len(kinds)), kinds, strict=True):
            value = _scores(target, kind)["intervals"][name]["coverage"]
            label = KINDS[kind] if row == 0 else None
            place = [np.nan if value is None else value]
            axis.plot(place, [row + offset], "o", color=_color(kind), label=label, markersize=6)
    axis.set_yticks(range(len(names)), [f"{name} % interval" for name in names])
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    _title(axis, "share of values inside; the mark is what the interval promises")
    _legend(figure, axis)
    return figure


def importance(interpretation: Interpretation) -> Figure:
    """Share of each input in what the network's selection let through, by kind."""
    kinds = {kind: shares for kind, shares in interpretation.importance.items() if shares}
    most = max(min(len(shares), _MOST_BARS) for shares in kinds.values())
    figure, axes = _panels(len(kinds), height=0.8 + 0.24 * most)
    for axis, (kind, shares) in zip(axes, kinds.items(), strict=True):
        top = sorted(shares.items(), key=lambda item: -item[1])[:_MOST_BARS]
        axis.barh(range(len(top)), [share for _, share in top], color=light("model"), height=0.7)
        axis.set_yticks(range(len(top)), [_short(name) for name, _ in top], parse_math=False)
        axis.set_ylim(most - 0.4, -0.6)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        _title(axis, f"{kind} inputs")
    return figure


def attention(interpretation: Interpretation) -> Figure:
    """Mean attention over the steps of the history."""
    figure, (axis,) = _panels(1, height=2.0)
    steps = np.arange(-len(interpretation.attention), 0)
    axis.fill_between(steps, interpretation.attention, color=light("model"), alpha=0.25, linewidth=0)
    axis.plot(steps, interpretation.attention, color=light("model"), linewidth=1.5)
    axis.set_xlabel("steps before the forecast")
    axis.set_ylim(bottom=0)
    _title(axis, "attention over the history")
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
            axis.fill_between(ahead, *ends, color=light("model"), alpha=0.18, linewidth=0, label=label)
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


def _curve(points: Sequence[MetricPoint], name: str) -> npt.NDArray[np.float64]:
    """(n, 2) of step and value, thinned evenly; the last point always stays."""
    curve = _floats([(point.step, point.value) for point in points if point.name == name])
    if len(curve) <= _MOST_POINTS:
        return curve
    return curve[np.unique(np.linspace(0, len(curve) - 1, _MOST_POINTS).astype(np.int64))]


def _plot(axis: Axes, curve: npt.NDArray[np.float64], color: str) -> None:
    marker = "o" if len(curve) < _FEW_POINTS else None
    axis.plot(curve[:, 0], curve[:, 1], color=light(color), linewidth=1.5, marker=marker, markersize=3)
    axis.set_xlabel("optimizer step")


def _scores(target: dict[str, Any], kind: str) -> dict[str, Any]:
    scores: dict[str, Any] = target[kind] if kind in target else target["rivals"][kind]
    return scores


def _color(kind: str) -> str:
    return light(_COLOR_OF_KIND[kind])


def _floats(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def _panels(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    figure = _figure(height=height)
    axes = [figure.add_subplot(1, count, place + 1) for place in range(count)]
    for axis in axes:
        _style(axis)
    return figure, axes


def _figure(*, height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    return figure


def _style(axis: Axes) -> None:
    axis.patch.set_alpha(0.0)
    axis.grid(visible=True, color=light("line"), linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(colors=light("quiet"), labelsize=8, length=0)
    axis.xaxis.label.set(color=light("quiet"), fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.xaxis.offsetText.set(color=light("quiet"), fontsize=8)
    axis.yaxis.offsetText.set(color=light("quiet"), fontsize=8)


def _title(axis: Axes, text: str) -> None:
    # A server may well be called $host: names are never mathematics.
    axis.set_title(_short(text, 70), color=light("ink"), fontsize=9.5, parse_math=False)


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=len(labels),
        fontsize=8,
        frameon=False,
        labelcolor=light("ink"),
    )
