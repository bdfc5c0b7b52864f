"""What TensorBoard shows beside the numbers: what was asked for, what was trained, and its forecasts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trainer.report import score_figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.report.inputs import ExampleForecast


def add_notes(
    folder: Path, result: dict[str, Any], examples: Sequence[ExampleForecast], quantiles: Sequence[float]
) -> None:
    """Adds the spec and the summary as texts, and a figure of forecasts for each target."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - slow, and not needed to start

    step = result["steps"]
    writer: Any = SummaryWriter(str(folder), filename_suffix=".notes")
    writer.add_text("spec", _as_table(result["resolved_spec"]), step)
    writer.add_text("summary", _as_code(result["summary"]), step)
    for target in result["scores"]["targets"]:
        shown = [example for example in examples if example.target == target]
        if shown:
            writer.add_figure(f"forecasts/{target}", score_figures.forecasts(shown, quantiles), step)
    writer.close()


def _as_table(spec: dict[str, Any]) -> str:
    rows = [f"| {name} | {json.dumps(value)} |" for name, value in spec.items()]
    return "\n".join(["| field | trained with |", "|---|---|", *rows])


def _as_code(content: dict[str, Any]) -> str:
    return "\n".join(f"    {line}" for line in json.dumps(content, indent=2).splitlines())
