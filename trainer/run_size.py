"""How long a run will be, in optimizer steps. Torch-free."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from trainer.spec import TrainingSpec


@dataclass(frozen=True)
class RunSize:
    """Steps and epochs; an optimizer step takes `effective_batch_size` windows."""

    epochs: int
    steps_per_epoch: int
    total_steps: int
    effective_batch_size: int

    @classmethod
    def of(cls, spec: TrainingSpec, windows: int) -> Self:
        """For so many training windows an epoch."""
        steps_per_epoch = math.ceil(math.ceil(windows / spec.batch_size) / spec.accumulate_grad_batches)
        planned = spec.epochs * steps_per_epoch
        return cls(
            epochs=spec.epochs,
            steps_per_epoch=steps_per_epoch,
            total_steps=min(planned, spec.max_steps or planned),
            effective_batch_size=spec.effective_batch_size,
        )

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that this many optimizer steps end in."""
        return max(math.ceil(step / self.steps_per_epoch), 1)
