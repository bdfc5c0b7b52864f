"""Writes report.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.report import figures
from trainer.report.svg import inline_svg
from trainer.report.theme import variables

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from trainer.report.inputs import ReportInputs

_TEMPLATE = "report.html.jinja"
_NO_NUMBER = "\N{EN DASH}"
_FACTS = ("stop_reason", "epochs", "steps", "parameters", "windows", "duration_seconds")


@dataclass(frozen=True)
class _Row:
    """One line of a table of scores."""

    name: str
    scores: dict[str, Any]


@dataclass(frozen=True)
class _Target:
    """What the page shows of one target."""

    name: str
    rows: list[_Row]
    verdict: dict[str, Any] | None
    verdict_reason: str | None
    forecasts: Markup | None
    by_horizon: Markup
    coverage: Markup | None


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write one self-contained HTML file: figures are inlined SVG, nothing is fetched."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "share": _share}
    page = environment.get_template(_TEMPLATE).render(_content(inputs))
    path.write_text(page, encoding="utf-8")


def _content(inputs: ReportInputs) -> dict[str, Any]:
    result, scores = inputs.result, inputs.result["scores"]
    best = result.get("best") or {}
    return {
        "title": inputs.title,
        "light": variables(dark=False),
        "dark": variables(dark=True),
        "scores": scores,
        "targets": [_target(place, name, inputs) for place, name in enumerate(scores["targets"])],
        "losses": _svg(
            figures.losses(inputs.metrics, best.get("step")), "losses", "Training and validation loss"
        ),
        "rate": _svg(figures.rate(inputs.metrics), "rate", "Learning rate and gradient norm"),
        "best": best,
        "facts": {name: result[name] for name in _FACTS if name in result},
        "interpretations": [
            (name, *_interpretation(place, one))
            for place, (name, one) in enumerate(inputs.interpretation.items())
        ],
        "adjustments": inputs.adjustments,
        "warnings": inputs.warnings,
        "findings": inputs.findings,
        "resolved_spec": result.get("resolved_spec", {}),
        "provenance": {name: result[name] for name in ("versions", "hardware") if name in result},
    }


def _target(place: int, name: str, inputs: ReportInputs) -> _Target:
    scores = inputs.result["scores"]
    target = scores["targets"][name]
    calibrated = target["model"] != target["model_raw"]
    kinds = ["model", *(["model_raw"] if calibrated else []), *_rivals(target)]
    examples = [example for example in inputs.examples if example.target == name]
    shown = figures.forecasts(examples, inputs.quantiles) if examples else None
    coverage = figures.coverages(target, kinds) if target["model"]["intervals"] else None
    horizon = inline_svg(
        figures.by_horizon(target, kinds), name=f"horizon{place}", alt=f"{name}: scores by step"
    )
    return _Target(
        name=name,
        rows=[_Row(figures.KINDS[kind], target.get(kind) or target["rivals"][kind]) for kind in kinds],
        verdict=target["verdict"],
        verdict_reason=target["verdict_reason"],
        forecasts=_svg(shown, f"forecast{place}", f"{name}: forecasts with intervals"),
        by_horizon=horizon,
        coverage=_svg(coverage, f"coverage{place}", f"{name}: coverage of the intervals"),
    )


def _rivals(target: dict[str, Any]) -> list[str]:
    return [name for name, scores in target["rivals"].items() if scores is not None]


def _interpretation(place: int, one: Any) -> tuple[Markup | None, Markup | None]:
    bars = figures.importance(one) if any(one.importance.values()) else None
    return (
        _svg(bars, f"importance{place}", "Importance of the inputs"),
        _svg(figures.attention(one), f"attention{place}", "Attention over the history"),
    )


def _svg(figure: Figure | None, name: str, alt: str) -> Markup | None:
    return None if figure is None else inline_svg(figure, name=name, alt=alt)


def _number(value: float | None, digits: int = 4) -> str:
    return _NO_NUMBER if value is None else f"{value:.{digits}g}"


def _share(value: float | None) -> str:
    return _NO_NUMBER if value is None else f"{value:.1%}"
