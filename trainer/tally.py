"""What is counted and summed while a network trains: on its device, read back only where it is reported."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Kept over an interruption, besides `batches`.
_KEPT = (
    "train_loss",
    "good_batches",
    "idle_loss",
    "first_loss",
    "gradient_norm",
    "bad_steps",
    "bad_steps_in_a_row",
)


@dataclass
class Tally:
    """Scalars on `device`; a group is the batches accumulated for one optimizer step."""

    device: torch.device
    train_loss: Tensor = field(
        init=False
    )  # sum over the groups since the last report, but for those left out
    good_batches: Tensor = field(init=False)  # how many batches it sums over
    idle_loss: Tensor = field(init=False)  # as train_loss, of a forecast of zero, nothing left out
    first_loss: Tensor = field(init=False)  # of the untrained network's first group
    gradient_norm: Tensor = field(init=False)  # of the last optimizer step, before clipping
    bad_steps: Tensor = field(init=False)  # optimizer steps left out, in all
    bad_steps_in_a_row: Tensor = field(init=False)
    batches: int = 0  # since the last report
    group_loss: Tensor = field(init=False)  # sum over the batches of the group
    group_idle: Tensor = field(init=False)  # the same of a forecast of zero in scaled space
    group_batches: int = 0

    def __post_init__(self) -> None:
        for name in _KEPT:
            setattr(self, name, self._number(0.0))
        self.first_loss = self._number(torch.nan)
        self.group_loss = self.group_idle = self._number(0.0)

    def add_batch(self, loss: Tensor, idle: Tensor) -> None:
        self.group_loss = self.group_loss + loss
        self.group_idle = self.group_idle + idle
        self.batches += 1
        self.group_batches += 1

    def end_group(self, norm: Tensor) -> Tensor:
        """Returns 1.0 where the step is to be left out as loss or gradient is no number; no host read.

        A quantile loss may be infinite with a finite gradient, so both are looked at.
        """
        good = torch.isfinite(norm + self.group_loss)
        bad = (~good).float()
        self.gradient_norm = norm
        self.train_loss = self.train_loss + torch.where(good, self.group_loss, 0.0)
        self.idle_loss = self.idle_loss + self.group_idle
        self.good_batches = self.good_batches + self.group_batches * good
        unknown = torch.isnan(self.first_loss) & good
        self.first_loss = torch.where(unknown, self.group_loss / self.group_batches, self.first_loss)
        self.group_loss = self.group_idle = torch.zeros_like(norm)
        self.group_batches = 0
        self.bad_steps = self.bad_steps + bad
        self.bad_steps_in_a_row = (self.bad_steps_in_a_row + bad) * bad
        return bad

    def begin_report(self) -> None:
        """What is summed between two reports starts at zero again."""
        self.train_loss = self.good_batches = self.idle_loss = self._number(0.0)
        self.batches = 0

    def kept(self) -> dict[str, float]:
        """What `go_on_from` needs; taken between two optimizer steps."""
        return {name: float(getattr(self, name)) for name in _KEPT} | {"train_batches": self.batches}

    @classmethod
    def go_on_from(cls, kept: dict[str, float], device: torch.device) -> Tally:
        tally = cls(device)
        for name in _KEPT:
            setattr(tally, name, tally._number(kept[name]))
        tally.batches = int(kept["train_batches"])
        return tally

    def _number(self, value: float) -> Tensor:
        return torch.full((), value, device=self.device)
