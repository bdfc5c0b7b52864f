"""The scores of a finished run as a table, the naive rivals beside the model."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

_DIGITS = 3
_HEADINGS = ("model", "seasonal\nnaive", "last\nvalue", "MAE", "in 80 %\ninterval")


def score_table(result: dict[str, Any]) -> Group:
    """From the content of result.json: a row per target, and below them what the verdicts rest on.

    Model and rivals are shown by their q-risk; the MAE is the median's; the last column is the share of
    values that fell into the 80 % interval. Fits into 80 columns.
    """
    scores = result["scores"]
    windows = f"{scores['windows']['scored']} {scores['scored_on']} windows"
    table = Table(
        title=f"q-risk on {windows}, lower is better",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("target", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for target, entry in scores["targets"].items():
        table.add_row(target, *_numbers(entry), _verdict(entry))
    return Group(table, *(Text(note) for note in _notes(scores)))


def _numbers(entry: dict[str, Any]) -> list[str]:
    model, rivals = entry["model"], entry["rivals"]
    seasonal, interval = rivals["seasonal_naive"], model["intervals"].get("80")
    held = None if interval is None else interval["coverage"]
    return [
        _number(model["q_risk"]),
        _number(None if seasonal is None else seasonal["q_risk"]),
        _number(rivals["last_value"]["q_risk"]),
        _number(model["mae"]),
        "-" if held is None else f"{held:.0%}",
    ]


def _verdict(entry: dict[str, Any]) -> str:
    return "none" if entry["verdict"] is None else str(entry["verdict"]["verdict"])


def _notes(scores: dict[str, Any]) -> list[str]:
    notes = [f"{target}: {_explain(entry)}" for target, entry in scores["targets"].items()]
    return notes if scores["season"] else [*notes, f"no seasonal-naive: {scores['season_reason']}"]


def _explain(entry: dict[str, Any]) -> str:
    verdict = entry["verdict"]
    if verdict is None:
        return str(entry["verdict_reason"])
    against = f"{verdict['verdict']} than the better rival, {str(verdict['against']).replace('_', ' ')}"
    return f"{verdict['verdict']}, {verdict['reason']}" if verdict["reason"] else against


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:#.{_DIGITS}g}"
