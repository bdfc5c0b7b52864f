"""The tables of the quality benchmark, as Markdown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from benchmarks.naive import NAIVE
from benchmarks.scoring import GROUPS
from benchmarks.seeds import Estimate, estimate, paired_change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scoring import Scores

# contestant -> seed -> scores
AllScores = dict[str, dict[int, "Scores"]]
WEIGHTS = ("best", "last")
_GROUP_TITLES = {"seen": "Servers trained on", "new": "Servers never seen"}
_OURS = "ours"


def quality_tables(scores: AllScores, targets: tuple[str, ...]) -> str:
    """One table per group and target, the validation losses, then the paired differences."""
    tables = [
        _score_table(scores, group, target)
        for group in GROUPS
        for target in targets
        if any(_figures(scores, name, weights, group, target) for name in scores for weights in WEIGHTS)
    ]
    return "\n\n".join([*tables, *_loss_tables(scores), *_paired_tables(scores, targets)]) + "\n"


def _score_table(scores: AllScores, group: str, target: str) -> str:
    lines = [
        f"{_GROUP_TITLES[group]}, {target}",
        "",
        "| forecast | weights | seeds | q-risk | q-risk calibrated | MAE | 50 % | 80 % | 96 % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in scores:
        for weights in WEIGHTS:
            figures = _figures(scores, name, weights, group, target)
            if figures:
                lines.append(_score_row(name, weights, figures))
    return "\n".join(lines)


def _score_row(name: str, weights: str, figures: list[dict[str, float]]) -> str:
    def over_seeds(figure: str) -> Estimate:
        return estimate([one[figure] for one in figures])

    covered = [
        f"{100 * over_seeds(f'coverage_{nominal}').mean:.0f} / "
        f"{100 * over_seeds(f'coverage_calibrated_{nominal}').mean:.0f}"
        for nominal in (50, 80, 96)
    ]
    cells = [
        name,
        "-" if name in NAIVE else weights,
        "-" if name in NAIVE else str(len(figures)),
        _number(over_seeds("q_risk")),
        _number(over_seeds("q_risk_calibrated")),
        _number(over_seeds("mae")),
        *covered,
    ]
    return "| " + " | ".join(cells) + " |"


def _loss_tables(scores: AllScores) -> Iterator[str]:
    rows = []
    for name, runs in scores.items():
        for weights in WEIGHTS:
            losses = list(_losses(runs, weights).values())
            if losses and name not in NAIVE:
                rows.append(f"| {name} | {weights} | {len(losses)} | {_number(estimate(losses))} |")
    if rows:
        yield "\n".join(
            [
                "Validation loss as pytorch-forecasting defines it, servers trained on, all targets",
                "",
                "| forecast | weights | seeds | val_loss |",
                "|---|---|---|---|",
                *rows,
            ]
        )


def _losses(runs: dict[int, Scores], weights: str) -> dict[int, float]:
    return {seed: run[weights]["val_loss"] for seed, run in runs.items() if weights in run}


def _paired_tables(scores: AllScores, targets: tuple[str, ...]) -> Iterator[str]:
    """Ours against each of the others, seed by seed, best against best and last against last."""
    rows = []
    for other in (name for name in scores if name != _OURS and name not in NAIVE):
        for weights in WEIGHTS:
            rows += _paired_rows(scores, other, weights, targets)
    if _OURS in scores and rows:
        yield "\n".join(
            [
                "Ours less the other, in percent of the other, paired by seed (below zero: ours is better)",
                "",
                "| against | weights | what | seeds | difference |",
                "|---|---|---|---|---|",
                *rows,
            ]
        )


def _paired_rows(scores: AllScores, other: str, weights: str, targets: tuple[str, ...]) -> list[str]:
    measures = [(f"q-risk {target}, {group}", group, target) for group in GROUPS for target in targets]
    rows = []
    for title, group, target in measures:
        change = paired_change(
            *(
                {seed: one["q_risk"] for seed, one in _by_seed(scores, name, weights, group, target).items()}
                for name in (_OURS, other)
            )
        )
        rows += _paired_row(other, weights, title, change)
    losses = [_losses(scores.get(name, {}), weights) for name in (_OURS, other)]
    return rows + _paired_row(other, weights, "val_loss", paired_change(*losses))


def _paired_row(other: str, weights: str, title: str, change: Estimate | None) -> list[str]:
    if change is None:
        return []
    in_percent = Estimate(100 * change.mean, 100 * change.half_width, change.count)
    return [f"| {other} | {weights} | {title} | {change.count} | {_number(in_percent, '+.1f', '.1f')} % |"]


def _figures(scores: AllScores, name: str, weights: str, group: str, target: str) -> list[dict[str, float]]:
    return list(_by_seed(scores, name, weights, group, target).values())


def _by_seed(
    scores: AllScores, name: str, weights: str, group: str, target: str
) -> dict[int, dict[str, Any]]:
    return {
        seed: run[weights][group][target]
        for seed, run in scores.get(name, {}).items()
        if group in run.get(weights, {})
    }


def _number(value: Estimate, form: str = "", width_form: str = "") -> str:
    """Mean and half width of its interval; small numbers with four decimals, others with three."""
    form = form or (".4f" if abs(value.mean) < 1 else ".3f")
    width = "" if math.isnan(value.half_width) else f" ± {value.half_width:{width_form or form}}"
    return f"{value.mean:{form}}{width}"
