"""The table of the three-phase benchmark, as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.seeds import estimate

Facts = list[dict[str, Any]]  # one per seed


def phase_table(stages: dict[str, Facts]) -> str:
    """A row per stage, means over the seeds; `faster` and the shares are against the first stage.

    Memory is the peak over what the imports hold; loss is val_loss.
    """
    lines = [
        "| stage | epochs | seconds | faster | memory | share | best loss | share | last loss | share |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    baseline = next(iter(stages.values()))
    lines += [_row(title, runs, baseline) for title, runs in stages.items()]
    return "\n".join(lines) + "\n"


def _row(title: str, runs: Facts, baseline: Facts) -> str:
    seconds, first_seconds = _mean(runs, _seconds), _mean(baseline, _seconds)
    cells = [
        title,
        f"{_mean(runs, lambda run: len(run['val_losses'])):g}",
        f"{seconds:.1f}",
        f"{first_seconds / seconds:.2f} x",
    ]
    for figure, form in ((_peak, ".0f"), (_best, ".4f"), (_last, ".4f")):
        value = _mean(runs, figure)
        unit = " MiB" if figure is _peak else ""
        cells += [f"{value:{form}}{unit}", f"{100 * value / _mean(baseline, figure):.0f} %"]
    return "| " + " | ".join(cells) + " |"


def _mean(runs: Facts, figure: Any) -> float:
    return estimate([float(figure(run)) for run in runs]).mean


def _seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def _peak(run: dict[str, Any]) -> float:
    return float(run["peak_bytes"]) / 2**20


def _best(run: dict[str, Any]) -> float:
    return float(min(run["val_losses"]))


def _last(run: dict[str, Any]) -> float:
    return float(run["val_losses"][-1])
