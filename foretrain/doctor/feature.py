"""What a row of the feature matrix is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretrain.doctor.lab import Lab, Run


@dataclass(frozen=True)
class Proof:
    """The run whose figures stand in the row, and a sentence on what was seen."""

    run: Run
    seen: str


@dataclass(frozen=True)
class Feature:
    """`prove` trains for real; it raises where the feature does not do what was `asked` of it."""

    name: str
    part: str
    asked: str
    prove: Callable[[Lab], Proof]
