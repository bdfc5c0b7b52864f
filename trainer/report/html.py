"""Writes report.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trainer.report import interpretation_figures, score_figures, training_figures
from trainer.report.svg import inline_svg
from trainer.report.theme import variables

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from trainer.report.inputs import ReportInputs

_TEMPLATE = "report.html.jinja"
_NO_NUMBER = "\N{EN DASH}"
_FACTS = {
    "stop_reason": "ended",
    "epochs": "epochs",
    "steps": "optimizer steps",
    "bad_steps": "steps left out",
    "parameters": "parameters",
    "duration_seconds": "seconds in all",
}
_USUAL_INTERVAL = "80"
SERIES_LISTED = 100


@dataclass(frozen=True)
class _Row:
    """One line of a table of scores."""

    name: str
    scores: dict[str, Any]


@dataclass(frozen=True)
class _Target:
    """What the page shows of one target."""

    place: int
    name: str
    rows: list[_Row]
    verdict: dict[str, Any] | None
    verdict_reason: str | None
    gain: float | None  # q-risk against the strongest rival's, as a share of it
    interval: dict[str, Any] | None  # the 80 % one, as published
    forecasts: Markup | None
    by_horizon: Markup
    coverage: Markup | None


@dataclass(frozen=True)
class _Dependence:
    """What the page shows of what one target hangs on."""

    name: str
    loss: float | None
    figure: Markup | None
    rises: list[tuple[str, float]]
    blocks: list[tuple[str, float | None]]


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write one self-contained HTML file: figures are inlined SVG, nothing is fetched."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "share": _share, "change": _change, "fact": _fact}
    page = environment.get_template(_TEMPLATE).render(_content(inputs))
    path.write_text(page, encoding="utf-8")


def _content(inputs: ReportInputs) -> dict[str, Any]:
    result, scores = inputs.result, inputs.result["scores"]
    return {
        "title": inputs.title,
        "light": variables(dark=False),
        "dark": variables(dark=True),
        "scores": scores,
        "targets": [_target(place, name, inputs) for place, name in enumerate(scores["targets"])],
        "best": result.get("best") or {},
        "facts": {label: result[name] for name, label in _FACTS.items() if name in result},
        "windows": result.get("windows", {}),
        "bad_steps": result.get("bad_steps", 0),
        "adjustments": inputs.adjustments,
        "warnings": inputs.warnings,
        "findings": inputs.findings,
        "data": inputs.data_report,
        "series_listed": SERIES_LISTED,
        "resolved_spec": result.get("resolved_spec", {}),
        "provenance": {name: result[name] for name in ("versions", "hardware") if name in result},
        "lr_find": inputs.lr_find,
    } | (_training(inputs) | _interpretation(result.get("interpretation")))


def _training(inputs: ReportInputs) -> dict[str, Markup | None]:
    best = inputs.result.get("best") or {}
    found = None if inputs.lr_find is None else training_figures.lr_find(inputs.lr_find)
    losses = training_figures.losses(inputs.metrics, best.get("step"))
    return {
        "losses": _svg(losses, "losses", "Training loss and validation loss over the optimizer steps"),
        "rate": _svg(
            training_figures.rate(inputs.metrics), "rate", "Learning rate and gradient norm over the steps"
        ),
        "finder": _svg(found, "finder", "Loss against learning rate, as the learning-rate finder saw it"),
    }


def _interpretation(found: dict[str, Any] | None) -> dict[str, Any]:
    if found is None:
        return {"looked_into": 0, "dependences": [], "selection": None, "attention": None}
    selection = interpretation_figures.selection(found["selection"])
    attention = interpretation_figures.attention(found["attention"])
    return {
        "looked_into": found["windows"],
        "dependences": [_dependence(place, *pair) for place, pair in enumerate(found["targets"].items())],
        "selection": _svg(selection, "selection", "Share of each input in the variable selection, by kind"),
        "attention": _svg(attention, "attention", "Mean attention over the steps of the history"),
    }


def _dependence(place: int, name: str, target: dict[str, Any]) -> _Dependence:
    figure = interpretation_figures.importance(target)
    alt = f"{name}: rise of the loss for each input that is shuffled, and for each stretch of the history"
    return _Dependence(
        name=name,
        loss=target["loss"],
        figure=_svg(figure, f"importance{place}", alt),
        rises=sorted(interpretation_figures.rises_of(target), key=lambda one: -one[1]),
        blocks=[(interpretation_figures.span(block), block["rise"]) for block in target["history"]],
    )


def _target(place: int, name: str, inputs: ReportInputs) -> _Target:
    scores = inputs.result["scores"]
    target = scores["targets"][name]
    calibrated = target["model"] != target["model_raw"]
    kinds = ["model", *(["model_raw"] if calibrated else []), *_rivals(target)]
    examples = [example for example in inputs.examples if example.target == name]
    shown = score_figures.forecasts(examples, inputs.quantiles) if examples else None
    coverage = score_figures.coverages(target, kinds) if target["model"]["intervals"] else None
    horizon = inline_svg(
        score_figures.by_horizon(target, kinds), name=f"horizon{place}", alt=f"{name}: scores by step ahead"
    )
    return _Target(
        place=place,
        name=name,
        rows=[_Row(score_figures.KINDS[kind], target.get(kind) or target["rivals"][kind]) for kind in kinds],
        verdict=target["verdict"],
        verdict_reason=target["verdict_reason"],
        gain=_gain(target),
        interval=target["model"]["intervals"].get(_USUAL_INTERVAL),
        forecasts=_svg(shown, f"forecast{place}", f"{name}: forecasts with intervals for some series"),
        by_horizon=horizon,
        coverage=_svg(coverage, f"coverage{place}", f"{name}: what each interval held, and what it promises"),
    )


def _gain(target: dict[str, Any]) -> float | None:
    """How much lower the model's q-risk is than its strongest rival's, negative where it is lower."""
    own = target["model"]["q_risk"]
    others = [target["rivals"][name]["q_risk"] for name in _rivals(target)]
    strongest = min((risk for risk in others if risk is not None), default=None)
    return own / strongest - 1.0 if own is not None and strongest else None


def _rivals(target: dict[str, Any]) -> list[str]:
    return [name for name, scores in target["rivals"].items() if scores is not None]


def _svg(figure: Figure | None, name: str, alt: str) -> Markup | None:
    return None if figure is None else inline_svg(figure, name=name, alt=alt)


def _number(value: float | None, digits: int = 4) -> str:
    return _NO_NUMBER if value is None else f"{value:.{digits}g}"


def _share(value: float | None) -> str:
    return _NO_NUMBER if value is None else f"{100 * value:.1f} %"


def _change(value: float | None) -> str:
    return _NO_NUMBER if value is None else f"{100 * value:+.1f} %"


def _fact(value: Any) -> str:
    """A whole number with its thousands apart, another one short, a word as it is."""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("_", " ")
