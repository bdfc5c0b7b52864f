"""What all figures of the report share, on matplotlib's object interface: no global state, no window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from trainer.report.theme import light

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

    FloatArray = npt.NDArray[np.float64]

_WIDTH = 9.0


def figure_of(*, height: float) -> Figure:
    """An empty figure as wide as the page, without a background."""
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    return figure


def panels(count: int, *, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, each row of them `height` inches high."""
    columns = columns or count
    rows = -(-count // columns)
    figure = figure_of(height=height * rows)
    axes = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for axis in axes:
        style(axis)
    return figure, axes


def style(axis: Axes) -> None:
    """Quiet grid and labels, no frame."""
    axis.patch.set_alpha(0.0)
    axis.grid(visible=True, color=light("line"), linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(which="both", colors=light("quiet"), labelsize=8, length=0)
    axis.xaxis.label.set(color=light("quiet"), fontsize=8)
    axis.yaxis.label.set(color=light("quiet"), fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.xaxis.offsetText.set(color=light("quiet"), fontsize=8)
    axis.yaxis.offsetText.set(color=light("quiet"), fontsize=8)


def title(axis: Axes, text: str) -> None:
    """A title above the axis. A server may well be called $host: names are never mathematics."""
    axis.set_title(short(text, 70), loc="left", color=light("ink"), fontsize=9, parse_math=False)


def short(name: str, most: int = 34) -> str:
    """A name that fits beside an axis, with nothing in it that has no shape of its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    return plain if len(plain) <= most else f"{plain[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def bars(axis: Axes, named: Sequence[tuple[str, float]]) -> None:
    """Horizontal bars, the first on top."""
    axis.barh(range(len(named)), [value for _, value in named], color=light("model"), height=0.64)
    axis.set_yticks(range(len(named)), [short(name) for name, _ in named], parse_math=False)
    axis.tick_params(axis="y", labelcolor=light("ink"))
    axis.grid(visible=False, axis="y")
    axis.set_ylim(len(named) - 0.4, -0.6)


def legend(figure: Figure, axis: Axes) -> None:
    """One legend for the whole figure, above it, from what one of its panels shows."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=len(labels),
        fontsize=8,
        frameon=False,
        labelcolor=light("ink"),
    )


def floats(values: Sequence[Any]) -> FloatArray:
    """Numbers with NaN for None."""
    return np.array(values, dtype=np.float64)
