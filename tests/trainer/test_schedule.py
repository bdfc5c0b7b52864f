from __future__ import annotations

from typing import Literal

import pytest
import torch

from trainer.schedule import LearningRate

Shape = Literal["onecycle", "cosine", "plateau", "constant"]


def rates(shape: Shape, steps: int, warmup: float) -> list[float]:
    rate = LearningRate(0.1, shape, warmup, steps)
    return [rate.at(step) for step in range(steps)]


def test_onecycle_follows_the_curve_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=50, pct_start=0.2, cycle_momentum=False
    )
    expected = []
    for _ in range(50):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        if len(expected) < 50:
            theirs.step()

    assert rates("onecycle", 50, 0.2) == pytest.approx(expected)


def test_warm_up_rises_to_the_peak_and_cosine_falls_to_nothing() -> None:
    curve = rates("cosine", 100, 0.1)

    assert curve[:10] == sorted(curve[:10])
    assert curve[10] == pytest.approx(0.1)
    assert curve[-1] < 0.001


def test_constant_stays_at_the_peak_after_the_warm_up() -> None:
    assert set(rates("constant", 100, 0.1)[10:]) == {0.1}


@pytest.mark.parametrize("shape", ["onecycle", "cosine", "plateau", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_a_run_of_one_step_has_a_positive_rate(shape: Shape, warmup: float) -> None:
    assert 0.0 < rates(shape, 1, warmup)[0] <= 0.1


def test_plateau_halves_after_three_epochs_without_gain() -> None:
    rate = LearningRate(0.1, "plateau", 0.0, 100)
    seen = []
    for loss in (1.0, 0.9, 0.95, 0.95, 0.95, 0.8, 0.85):
        rate.heed(loss)
        seen.append(rate.at(50))

    assert seen == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05]


def test_other_shapes_do_not_heed_the_validation_loss() -> None:
    rate = LearningRate(0.1, "constant", 0.0, 100)
    for _ in range(10):
        rate.heed(1.0)

    assert rate.at(50) == 0.1
