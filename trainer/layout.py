"""The network's inputs: which they are, in which order, and what they are called inside.

Inside, a metric is `m000` and a category `c000`: pytorch-forecasting keeps modules by column name, so that a
column called `cpu`, `type` or `a.b` would break it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from trainer.clock import calendar_names
from trainer.spec import CALENDAR_FEATURES

if TYPE_CHECKING:
    from trainer.spec import TrainingSpec

SERIES = "series"  # the column that names a series, whatever the group columns are called
TIME_INDEX = "time_idx"
RELATIVE_TIME = "relative_time_idx"


@dataclass(frozen=True)
class Layout:
    """Columns by role, by the dataset's names; `statics` are categories that are constant in a series."""

    targets: tuple[str, ...]
    calendar: tuple[str, ...]
    known: tuple[str, ...]
    observed: tuple[str, ...]
    statics: tuple[str, ...]

    @classmethod
    def of(cls, spec: TrainingSpec, numeric_columns: list[str]) -> Layout:
        """The layout of a resolved spec. A column of the dataset wins over a calendar feature of its name."""
        named = spec.known_covariates or []
        calendar = tuple(name for name in named if name in CALENDAR_FEATURES and name not in numeric_columns)
        return cls(
            targets=tuple(spec.target_metrics or ()),
            calendar=calendar,
            known=tuple(name for name in named if name not in calendar),
            observed=tuple(spec.observed_covariates),
            statics=tuple(spec.static_categoricals or ()),
        )

    @property
    def numeric(self) -> list[str]:
        """All numeric columns that are read, targets first."""
        return [*self.targets, *self.known, *self.observed]

    @cached_property
    def internal(self) -> dict[str, str]:
        """Column name -> name inside the network, numeric columns."""
        return {name: f"m{index:03d}" for index, name in enumerate(self.numeric)}

    @cached_property
    def internal_statics(self) -> dict[str, str]:
        """Column name -> name inside the network, categories."""
        return {name: f"c{index:03d}" for index, name in enumerate(self.statics)}

    @cached_property
    def target_inputs(self) -> list[str]:
        return [self.internal[name] for name in self.targets]

    @cached_property
    def known_inputs(self) -> list[str]:
        """Known reals in the order of pytorch-forecasting, which appends the relative time."""
        return [*calendar_names(self.calendar), *(self.internal[name] for name in self.known), RELATIVE_TIME]

    @cached_property
    def unknown_inputs(self) -> list[str]:
        return [*(self.internal[name] for name in self.observed), *self.target_inputs]

    @cached_property
    def static_inputs(self) -> list[str]:
        return list(self.internal_statics.values())

    @cached_property
    def reals(self) -> list[str]:
        """Every real input, in the order of the last axis of encoder_cont and decoder_cont."""
        return [*self.known_inputs, *self.unknown_inputs]

    @cached_property
    def readable(self) -> dict[str, str]:
        """Name inside the network -> the dataset's name, for reports."""
        outside = {inside: name for name, inside in self.internal.items()}
        return outside | {inside: name for name, inside in self.internal_statics.items()}
