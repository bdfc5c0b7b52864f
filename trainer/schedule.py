"""The learning rate as a function of the optimizer step: a resumed run needs little more than the step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
PLATEAU_PATIENCE = 3  # epochs without gain before the rate is halved
PLATEAU_FACTOR = 0.5


@dataclass
class LearningRate:
    """The rate of each of `total_steps` optimizer steps (accumulated batches count once).

    onecycle: up along a cosine for `warmup_fraction` of the run, then down to nothing (Smith and Topin 2018;
    the curve of torch's OneCycleLR without its momentum). cosine: linear warm-up, then down to zero.
    constant: linear warm-up. plateau: the same, halved after 3 epochs in which the validation loss did not
    fall.
    """

    peak: float
    shape: Literal["onecycle", "cosine", "plateau", "constant"]
    warmup_fraction: float
    total_steps: int
    _best_loss: float = field(default=math.inf, init=False)
    _stale_epochs: int = field(default=0, init=False)
    _reduction: float = field(default=1.0, init=False)

    def at(self, step: int) -> float:
        """The rate of the optimizer step with this number, from 0."""
        if self.shape == "onecycle":
            return self.peak * self._one_cycle(step)
        warmup_steps = round(self.warmup_fraction * self.total_steps)
        if step < warmup_steps:
            return self.peak * (step + 1) / (warmup_steps + 1)
        if self.shape == "cosine":
            return self.peak * _cosine(1.0, 0.0, (step - warmup_steps) / (self.total_steps - warmup_steps))
        return self.peak * self._reduction

    def heed(self, validation_loss: float) -> None:
        """Take note of an epoch's loss; only `plateau` acts on it."""
        if self.shape != "plateau":
            return
        if validation_loss < self._best_loss:
            self._best_loss, self._stale_epochs = validation_loss, 0
            return
        self._stale_epochs += 1
        if self._stale_epochs >= PLATEAU_PATIENCE:
            self._reduction, self._stale_epochs = self._reduction * PLATEAU_FACTOR, 0

    def memory(self) -> dict[str, float]:
        """What `heed` has noted, for `remember`."""
        return {
            "best_loss": self._best_loss,
            "stale_epochs": self._stale_epochs,
            "reduction": self._reduction,
        }

    def remember(self, memory: dict[str, float]) -> None:
        """Go on from the `memory` of an earlier run."""
        self._best_loss, self._reduction = memory["best_loss"], memory["reduction"]
        self._stale_epochs = int(memory["stale_epochs"])

    def _one_cycle(self, step: int) -> float:
        top = max(self.warmup_fraction * self.total_steps - 1.0, 0.0)
        if step < top:
            return _cosine(ONE_CYCLE_START, 1.0, step / top)
        return _cosine(1.0, ONE_CYCLE_END, (step - top) / max(self.total_steps - 1.0 - top, 1.0))


def _cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine; `share` is clipped to 0..1."""
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
