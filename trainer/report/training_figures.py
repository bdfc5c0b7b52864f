"""How the run went: losses, learning rate, gradient norm, the learning-rate finder's curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from trainer.report.drawing import floats, legend, panels, title
from trainer.report.theme import light

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from trainer.report.drawing import FloatArray
    from trainer.report.inputs import MetricPoint

_MOST_POINTS = 1000
_FEW_POINTS = 40
_COLUMNS = 2
_OF_TARGET = "val_loss/"


def losses(points: Sequence[MetricPoint], best_step: int | None) -> Figure | None:
    """Training loss, in the scaled space it is taken in, beside validation loss in original units."""
    whole = "validation loss (original units)"
    named = {"train_loss": "training loss (scaled)", "val_loss": whole}
    per_target = dict.fromkeys(point.name for point in points if point.name.startswith(_OF_TARGET))
    if per_target:
        named["val_loss"] = "validation loss, sum over the targets"
    named |= {name: f"validation loss: {name.removeprefix(_OF_TARGET)}" for name in per_target}
    drawn = {name: curve for name in named if len(curve := _curve(points, name))}
    if not drawn:
        return None
    figure, axes = panels(len(drawn), height=2.1, columns=min(_COLUMNS, len(drawn)))
    for axis, (name, curve) in zip(axes, drawn.items(), strict=True):
        _plot(axis, curve)
        title(axis, named[name])
        if best_step is not None and name != "train_loss":
            _mark_best(axis, best_step)
    _label_lowest(axes)
    return figure


def rate(points: Sequence[MetricPoint]) -> Figure | None:
    """Learning rate and gradient norm over the optimizer steps."""
    named = [("learning_rate", "learning rate"), ("grad_norm", "gradient norm, before clipping")]
    drawn = [(label, curve) for name, label in named if len(curve := _curve(points, name))]
    if not drawn:
        return None
    figure, axes = panels(len(drawn), height=2.1)
    for axis, (label, curve) in zip(axes, drawn, strict=True):
        _plot(axis, curve)
        title(axis, label)
        axis.set_ylim(bottom=0)
    _label_lowest(axes)
    return figure


def lr_find(found: dict[str, Any]) -> Figure:
    """Loss against learning rate as the finder saw it, and what it suggests."""
    figure, (axis,) = panels(1, height=2.4)
    rates = floats(found["rates"])
    axis.plot(rates, floats(found["losses"]), color=light("quiet"), linewidth=0.8, alpha=0.6, label="loss")
    smoothed = floats(found["smoothed"])
    axis.plot(rates, smoothed, color=light("model"), linewidth=1.5, label="smoothed")
    if found["suggestion"] is not None:
        label = f"suggested: {found['suggestion']:.3g}"
        axis.axvline(found["suggestion"], color=light("good"), linewidth=1.2, linestyle="--", label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    _keep_outliers_out(axis, smoothed)
    axis.set_xlabel("learning rate, on a logarithmic axis")
    legend(figure, axis)
    return figure


def _keep_outliers_out(axis: Axes, smoothed: FloatArray) -> None:
    """A loss that explodes at the end would press the part that matters flat."""
    seen = smoothed[np.isfinite(smoothed)]
    if len(seen):
        low, high = float(seen.min()), float(seen[0])
        room = max(high - low, 1e-9)
        axis.set_ylim(low - 0.3 * room, high + 0.6 * room)


def _mark_best(axis: Axes, step: int) -> None:
    axis.axvline(step, color=light("good"), linewidth=1, linestyle="--")
    where = axis.get_xaxis_transform()
    axis.text(step, 0.97, "best ", color=light("good"), fontsize=8, va="top", ha="right", transform=where)


def _curve(points: Sequence[MetricPoint], name: str) -> FloatArray:
    """(n, 2) of step and value, thinned evenly; the last point always stays."""
    curve = floats([(point.step, point.value) for point in points if point.name == name])
    if len(curve) <= _MOST_POINTS:
        return curve
    return curve[np.unique(np.linspace(0, len(curve) - 1, _MOST_POINTS).astype(np.int64))]


def _plot(axis: Axes, curve: FloatArray) -> None:
    marker = "o" if len(curve) < _FEW_POINTS else None
    axis.plot(curve[:, 0], curve[:, 1], color=light("model"), linewidth=1.5, marker=marker, markersize=3)


def _label_lowest(axes: Sequence[Axes]) -> None:
    for axis in axes[-_COLUMNS:]:
        axis.set_xlabel("optimizer step")
