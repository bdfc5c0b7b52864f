from __future__ import annotations

import pytest
import torch
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss

from trainer.loss import ValidationLoss, observed_mean, quantile_loss, stacked

QUANTILES = [0.1, 0.5, 0.9]
LEVELS = torch.tensor(QUANTILES)


def test_the_loss_is_twice_the_pinball_loss() -> None:
    losses = quantile_loss(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2.5]), LEVELS)

    assert losses.item() == pytest.approx(2 * (0.1 * 1.5 + 0.5 * 0.5 + 0.1 * 0.5) / 3)


def test_validation_loss_is_pytorch_forecastings_over_batches_of_unequal_size() -> None:
    generator = torch.Generator().manual_seed(1)
    theirs = MultiLoss([QuantileLoss(QUANTILES), QuantileLoss(QUANTILES)])
    ours, expected, windows = ValidationLoss(2, torch.device("cpu")), 0.0, 0
    for size in (8, 8, 3):
        forecast = [torch.randn(size, 5, 3, generator=generator) for _ in range(2)]
        actual = [torch.randn(size, 5, generator=generator) * scale for scale in (1.0, 40.0)]
        expected += float(theirs(forecast, (actual, None))) * size
        windows += size
        ours.add(quantile_loss(stacked(forecast), stacked(actual), LEVELS), None)

    assert sum(ours.per_target()) == pytest.approx(expected / windows, rel=1e-6)


def test_masked_steps_carry_no_loss() -> None:
    losses = torch.tensor([[[1.0], [100.0], [3.0]]])
    weights = torch.tensor([[[1.0], [0.0], [1.0]]])
    total = ValidationLoss(1, torch.device("cpu"))
    total.add(losses, weights)

    assert observed_mean(losses, weights).item() == 2.0
    assert total.per_target() == [2.0]


def test_a_batch_without_an_observed_step_has_no_loss_and_no_nan() -> None:
    assert observed_mean(torch.ones(2, 3, 1), torch.zeros(2, 3, 1)).item() == 0.0


def test_one_target_is_stacked_like_several() -> None:
    single, several = torch.ones(4, 5), [torch.ones(4, 5), torch.ones(4, 5)]

    assert stacked(single).shape == (4, 5, 1)
    assert stacked(several).shape == (4, 5, 2)
    assert stacked([torch.ones(4, 5, 7)] * 2).shape == (4, 5, 2, 7)
