"""What is counted and summed while a network trains: on its device, read back only where it is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_AT_THE_START = {
    "train_loss": 0.0,
    "good_batches": 0.0,
    "idle_loss": 0.0,
    "first_loss": float("nan"),
    "gradient_norm": 0.0,
    "bad_steps": 0.0,
    "bad_steps_in_a_row": 0.0,
}


class Tally:
    """Scalars on `device`; a group is the batches accumulated for one optimizer step.

    `kept` is what an earlier run counted, if this one goes on from it.
    """

    # Sum over the groups since the last report, but for those left out.
    train_loss: Tensor
    good_batches: Tensor  # how many batches it sums over
    idle_loss: Tensor  # as train_loss, of a forecast of zero, nothing left out
    first_loss: Tensor  # of the untrained network's first group
    gradient_norm: Tensor  # of the last optimizer step, before clipping
    bad_steps: Tensor  # optimizer steps left out, in all
    bad_steps_in_a_row: Tensor
    batches: int  # since the last report
    group_loss: Tensor  # sum over the batches of the group
    group_idle: Tensor  # the same of a forecast of zero in scaled space
    group_batches: int

    def __init__(self, device: torch.device, kept: dict[str, float] | None = None) -> None:
        values = kept or _AT_THE_START
        for name in _AT_THE_START:
            setattr(self, name, torch.tensor(values[name], device=device))
        self.batches = int(values.get("train_batches", 0))
        self._begin_group()

    def add_batch(self, loss: Tensor, idle: Tensor) -> None:
        self.group_loss = self.group_loss + loss
        self.group_idle = self.group_idle + idle
        self.batches += 1
        self.group_batches += 1

    def end_group(self, norm: Tensor) -> Tensor:
        """Returns 1.0 where the step is to be left out as loss or gradient is no number; no host read.

        A quantile loss may be infinite with a finite gradient, so both are looked at.
        """
        good = torch.isfinite(norm) & torch.isfinite(self.group_loss)
        bad = (~good).float()
        self.gradient_norm = norm
        self.train_loss = self.train_loss + torch.where(good, self.group_loss, 0.0)
        self.idle_loss = self.idle_loss + self.group_idle
        self.good_batches = self.good_batches + self.group_batches * good
        unknown = torch.isnan(self.first_loss) & good
        self.first_loss = torch.where(unknown, self.group_loss / self.group_batches, self.first_loss)
        self.bad_steps = self.bad_steps + bad
        self.bad_steps_in_a_row = (self.bad_steps_in_a_row + bad) * bad
        self._begin_group()
        return bad

    def begin_report(self) -> None:
        """What is summed between two reports starts at zero again."""
        self.train_loss = self.good_batches = self.idle_loss = torch.zeros_like(self.train_loss)
        self.batches = 0

    def kept(self) -> dict[str, float]:
        """For a run that goes on from here; taken between two optimizer steps."""
        counted = {name: float(getattr(self, name)) for name in _AT_THE_START}
        return counted | {"train_batches": self.batches}

    def _begin_group(self) -> None:
        self.group_loss = self.group_idle = torch.zeros_like(self.train_loss)
        self.group_batches = 0
