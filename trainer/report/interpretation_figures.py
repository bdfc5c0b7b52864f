"""What the forecasts hang on: each target's own importances, and the weights all targets share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer.report.drawing import bars, figure_of, floats, panels, style, title
from trainer.report.theme import light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BARS = 12
_BAR = 0.22  # inches
_AROUND_BARS = 0.8
KINDS = {"encoder": "history", "decoder": "known ahead", "static": "static"}


def importance(target: dict[str, Any]) -> Figure | None:
    """How much one target's loss rises without each input, and without each stretch of its history."""
    rises = sorted(rises_of(target), key=lambda one: -one[1])[:_MOST_BARS]
    blocks = [block for block in target["history"] if block["rise"] is not None]
    if not rises or not blocks:
        return None
    figure = figure_of(height=max(_AROUND_BARS + _BAR * len(rises), 2.6))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    for axis in (left, right):
        style(axis)
    bars(left, rises)
    _percent(left)
    title(left, "rise of the loss, one input shuffled")
    right.bar(range(len(blocks)), [block["rise"] for block in blocks], color=light("model"), width=0.7)
    names = [span(block) for block in blocks]
    right.set_xticks(range(len(blocks)), names, rotation=45, ha="right", rotation_mode="anchor")
    right.grid(visible=False, axis="x")
    right.yaxis.set_major_formatter(_percents)
    right.set_xlabel("steps before the forecast")
    title(right, "rise of the loss, a stretch of the history shuffled")
    return figure


def selection(shared: dict[str, dict[str, float]]) -> Figure | None:
    """Share of each input in what the network's variable selection let through, by kind."""
    kinds = {kind: shares for kind, shares in shared.items() if shares}
    if not kinds:
        return None
    most = max(min(len(shares), _MOST_BARS) for shares in kinds.values())
    figure, axes = panels(len(kinds), height=_AROUND_BARS + _BAR * most)
    for axis, (kind, shares) in zip(axes, kinds.items(), strict=True):
        bars(axis, sorted(shares.items(), key=lambda item: -item[1])[:_MOST_BARS])
        axis.set_ylim(most - 0.4, -0.6)
        _percent(axis)
        title(axis, f"{KINDS[kind]} inputs")
    return figure


def attention(weights: list[float]) -> Figure:
    """Mean attention over the steps of the history."""
    figure, (axis,) = panels(1, height=1.9)
    steps = np.arange(-len(weights), 0)
    axis.fill_between(steps, floats(weights), color=light("model"), alpha=0.2, linewidth=0)
    axis.plot(steps, floats(weights), color=light("model"), linewidth=1.5)
    axis.set_xlabel("steps before the forecast")
    axis.set_ylim(bottom=0)
    axis.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    title(axis, "share of the attention")
    return figure


def rises_of(target: dict[str, Any]) -> list[tuple[str, float]]:
    """Inputs by name and kind with how much the loss rises without them, those that could be measured."""
    return [
        (f"{name} ({KINDS[kind]})", rise)
        for kind, inputs in target["importance"].items()
        for name, rise in inputs.items()
        if rise is not None
    ]


def span(block: dict[str, Any]) -> str:
    """Its steps in words: 48 to 35, or 1."""
    oldest, newest = block["oldest"], block["newest"]
    return f"{oldest}" if oldest == newest else f"{oldest} to {newest}"


def _percents(value: float, _: float) -> str:
    return f"{100 * value:.3g} %"


def _percent(axis: Axes) -> None:
    axis.xaxis.set_major_formatter(_percents)
    axis.xaxis.set_major_locator(MaxNLocator(4))
