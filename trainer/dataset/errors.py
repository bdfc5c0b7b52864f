"""The one way in which reading a dataset fails because of what is in the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.dataset.schema import DatasetProblem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.dataset.schema import ProblemCode


class DatasetError(Exception):
    """The file cannot be used as it is; `problem` says why, where, and what to do."""

    def __init__(self, problem: DatasetProblem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def problem(
    code: ProblemCode, detail: str, *, column: str | None = None, row: int | None = None
) -> DatasetError:
    """Build the error to raise; `row` counts from 1, the header not counted."""
    return DatasetError(DatasetProblem(code=code, detail=detail, column=column, row=row))


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for a sentence, cut after `most`."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
