"""Which columns a spec means in a given dataset. Torch-free: the service asks before it accepts a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.events import Adjustment
from trainer.spec import CALENDAR_FEATURES, DEFAULT_TARGET, USUAL_TARGETS, TrainingSpec

if TYPE_CHECKING:
    from trainer.dataset.schema import DatasetSchema

PERIOD_SECONDS = {
    "minute_of_hour": 3_600.0,
    "hour_of_day": 86_400.0,
    "day_of_week": 604_800.0,
    "day_of_month": 30.44 * 86_400.0,
    "month_of_year": 365.25 * 86_400.0,
}
STEPS_PER_PERIOD = 3  # a calendar feature needs that many steps to show its shape
PERIODS_SEEN = 2  # and that many periods in the longest series to be learnt rather than memorised


@dataclass(frozen=True)
class ColumnProblem:
    """One name in the spec that the dataset cannot serve; `pointer` is relative to the spec."""

    pointer: str
    code: str
    detail: str


class UnknownColumns(ValueError):
    """The spec names columns the dataset lacks or that cannot play their role."""

    def __init__(self, problems: list[ColumnProblem]) -> None:
        super().__init__("; ".join(problem.detail for problem in problems))
        self.problems = problems


@dataclass
class _Resolution:
    spec: TrainingSpec
    schema: DatasetSchema
    adjustments: list[Adjustment] = field(default_factory=list)
    problems: list[ColumnProblem] = field(default_factory=list)

    def adjust(self, name: str, effective: object, reason: str) -> None:
        requested = getattr(self.spec, name)
        self.adjustments.append(
            Adjustment(field=name, requested=requested, effective=effective, reason=reason)
        )


def resolve_columns(spec: TrainingSpec, schema: DatasetSchema) -> tuple[TrainingSpec, list[Adjustment]]:
    """The spec with every column named, and what was filled in or dropped.

    Raises UnknownColumns with a pointer into the spec per problem, each listing the columns there are.
    """
    resolution = _Resolution(spec, schema)
    targets = _targets(resolution)
    columns = {
        "target_metrics": targets,
        "multi_target": len(targets) > 1,
        "known_covariates": _known_covariates(resolution, targets),
        "observed_covariates": _observed_covariates(resolution, targets),
        "static_categoricals": _static_categoricals(resolution),
    }
    if resolution.problems:
        raise UnknownColumns(resolution.problems)
    return spec.model_copy(update=columns), resolution.adjustments


def _targets(resolution: _Resolution) -> list[str]:
    spec, numeric = resolution.spec, resolution.schema.numeric_columns()
    if spec.target_metrics is None:
        return _default_targets(resolution, numeric)
    kept = []
    for index, name in enumerate(spec.target_metrics):
        if name in numeric:
            kept.append(name)
        elif spec.missing_targets == "error" or _is_there(resolution.schema, name):
            resolution.problems.append(
                _column_problem(resolution.schema, f"/target_metrics/{index}", name, numeric)
            )
    if not kept and not resolution.problems:
        resolution.problems.append(
            ColumnProblem(
                "/target_metrics",
                "unknown_column",
                f"none of the targets is in the dataset; its numeric columns are {_listed(numeric)}",
            )
        )
    if len(kept) < len(spec.target_metrics) and not resolution.problems:
        resolution.adjust("target_metrics", kept, "the dataset lacks the others and missing_targets is drop")
    return kept


def _default_targets(resolution: _Resolution, numeric: list[str]) -> list[str]:
    wanted = USUAL_TARGETS if resolution.spec.multi_target else (DEFAULT_TARGET,)
    targets = [name for name in wanted if name in numeric]
    if targets:
        why = (
            "multi_target without a list takes the usual metrics the dataset holds"
            if resolution.spec.multi_target
            else "no target was named"
        )
        resolution.adjust("target_metrics", targets, why)
    else:
        detail = (
            f"the dataset has none of the default targets {_listed(wanted)}; "
            f"name some in target_metrics out of {_listed(numeric)}"
        )
        resolution.problems.append(ColumnProblem("/target_metrics", "unknown_column", detail))
    return targets


def _known_covariates(resolution: _Resolution, targets: list[str]) -> list[str]:
    spec, numeric = resolution.spec, resolution.schema.numeric_columns()
    if spec.known_covariates is None:
        fitting = calendar_features_that_fit(resolution.schema)
        resolution.adjust("known_covariates", fitting, "the calendar features that fit frequency and span")
        return fitting
    for index, name in enumerate(spec.known_covariates):
        pointer = f"/known_covariates/{index}"
        if name in targets:
            resolution.problems.append(_clash(pointer, name))
        elif name not in CALENDAR_FEATURES and name not in numeric:
            offered = [*CALENDAR_FEATURES, *numeric]
            resolution.problems.append(_column_problem(resolution.schema, pointer, name, offered))
    return spec.known_covariates


def calendar_features_that_fit(schema: DatasetSchema) -> list[str]:
    """Calendar features whose period is longer than a few steps and seen often enough to be learnt."""
    step = schema.frequency_seconds
    span = step * schema.series_lengths["max"]
    return [
        name
        for name in CALENDAR_FEATURES
        if step * STEPS_PER_PERIOD <= PERIOD_SECONDS[name]
        and span >= PERIOD_SECONDS[name] * PERIODS_SEEN
        and not _is_there(schema, name)
    ]


def _observed_covariates(resolution: _Resolution, targets: list[str]) -> list[str]:
    numeric = resolution.schema.numeric_columns()
    for index, name in enumerate(resolution.spec.observed_covariates):
        pointer = f"/observed_covariates/{index}"
        if name in targets:
            resolution.problems.append(_clash(pointer, name))
        elif name not in numeric:
            resolution.problems.append(_column_problem(resolution.schema, pointer, name, numeric))
    return resolution.spec.observed_covariates


def _static_categoricals(resolution: _Resolution) -> list[str]:
    spec, schema = resolution.spec, resolution.schema
    named = spec.static_categoricals or []
    usable = [
        column.name
        for column in schema.columns
        if column.type in {"text", "boolean"} or column.name in schema.group_columns
    ]
    for index, name in enumerate(named):
        if name not in usable:
            pointer = f"/static_categoricals/{index}"
            resolution.problems.append(_column_problem(schema, pointer, name, usable))
    return named


def _is_there(schema: DatasetSchema, name: str) -> bool:
    return any(column.name == name for column in schema.columns)


def _column_problem(schema: DatasetSchema, pointer: str, name: str, offered: list[str]) -> ColumnProblem:
    if _is_there(schema, name):
        detail = f"column {name!r} is of the wrong type here; those that fit are {_listed(offered)}"
        return ColumnProblem(pointer, "wrong_type", detail)
    detail = f"the dataset has no column {name!r}; those that fit are {_listed(offered)}"
    return ColumnProblem(pointer, "unknown_column", detail)


def _clash(pointer: str, name: str) -> ColumnProblem:
    return ColumnProblem(pointer, "column_in_two_roles", f"column {name!r} is a target already")


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names) if names else "(none)"
