"""Quantile losses: one to train on, in scaled space; one to report, pytorch-forecasting's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainer.parallel.ranks import Ranks


def stacked(parts: Any) -> Tensor:
    """A tensor per target, or the one tensor of a single target, along a target axis after the time axis.

    (B, T) or (B, T, Q) each become (B, T, K) or (B, T, K, Q).
    """
    return torch.stack(parts, dim=2) if isinstance(parts, list) else parts.unsqueeze(2)


def quantile_loss(forecast: Tensor, actual: Tensor, quantiles: Tensor) -> Tensor:
    """Twice the pinball loss of `forecast` (…, Q) against `actual` (…), averaged over the quantiles: (…).

    Twice, as in pytorch-forecasting's QuantileLoss: at the median it is the absolute error.
    """
    error = actual.unsqueeze(-1) - forecast
    return 2.0 * torch.maximum(quantiles * error, (quantiles - 1.0) * error).mean(dim=-1)


def observed_mean(losses: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over all steps that were observed; masked steps have weight 0. A scalar, 0 if none was."""
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum().clamp(min=1.0)


class ValidationLoss:
    """pytorch-forecasting's loss over many batches: original units, mean over quantiles, steps and windows.

    Kept on the device, per target; one host read at the end. Where steps are masked the mean is over the
    observed ones (pytorch-forecasting would divide by all).
    """

    def __init__(self, targets: int, device: torch.device) -> None:
        self._sums = torch.zeros(targets, dtype=torch.float64, device=device)
        self._counts = torch.zeros(targets, dtype=torch.float64, device=device)

    def add(self, losses: Tensor, weights: Tensor | None) -> None:
        """`losses` and `weights` (B, T, K)."""
        if weights is None:
            self._counts += losses.shape[0] * losses.shape[1]
            self._sums += losses.sum(dim=(0, 1), dtype=torch.float64)
        else:
            self._counts += weights.sum(dim=(0, 1), dtype=torch.float64)
            self._sums += (losses * weights).sum(dim=(0, 1), dtype=torch.float64)

    def add_up(self, ranks: Ranks) -> None:
        """Over all ranks, each of which has seen a part."""
        both = torch.stack((self._sums, self._counts))
        ranks.add_up(both)
        self._sums, self._counts = both

    def per_target(self) -> list[float]:
        """The loss of each target, NaN for one that was never observed; their sum is `val_loss`."""
        return [float(value) for value in (self._sums / self._counts).tolist()]
