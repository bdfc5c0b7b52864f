from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from trainer.lr_find.range_test import (
    HIGHEST_RATE,
    LOWEST_RATE,
    PEAK_FACTOR,
    find_learning_rate,
    write_lr_find,
)
from trainer.observer import StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.events import TrainerEvent, Wish
    from trainer.prepare import PreparedRun


class ShortOfTime:
    """Wishes the range test to end after so many steps; it is asked twice in each."""

    def __init__(self, steps: int) -> None:
        self._wishes: list[Wish | None] = [None] * (2 * steps)

    def report(self, event: TrainerEvent) -> None: ...

    def stop_wish(self) -> Wish | None:
        return self._wishes.pop() if self._wishes else "time_limit"


def everything_that_steers_training(run: PreparedRun) -> dict[str, Any]:
    """Weights, counters, the state of every random generator, the windows of the next epoch."""
    counters = {
        name: value for name, value in vars(run.model.tally).items() if isinstance(value, torch.Tensor)
    }
    first_batch, _ = next(iter(run.train_batches))
    return {
        **{name: tensor.clone() for name, tensor in run.model.state_dict().items()},
        **{f"counter {name}": value.nan_to_num(-1.0) for name, value in counters.items()},
        "gradients": torch.tensor([p.grad is not None for p in run.model.parameters()]),
        "rate": torch.tensor(run.model.plan.learning_rate.at(0)),
        "mode": torch.tensor(run.model.training),
        "batches": torch.tensor(run.model.tally.batches),
        "next windows": first_batch["decoder_target"],
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor(np.random.get_state(legacy=False)["state"]["key"].astype(int)),  # noqa: NPY002
        "python": torch.tensor(random.getstate()[1]),
    }


def test_the_run_is_left_as_it_was_bit_for_bit(
    prepare_small: Callable[..., PreparedRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = prepare_small(columns=("cpu_percent",), dropout=0.2)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    before = everything_that_steers_training(run)

    found = find_learning_rate(run, ShortOfTime(20))

    after = everything_that_steers_training(run)
    assert len(found.losses) == 20
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert list(empty.iterdir()) == []


@pytest.mark.slow
def test_a_falling_loss_gives_the_same_rate_within_the_sweep_each_time(
    prepare_small: Callable[..., PreparedRun], make_observer: Any, tmp_path: Path
) -> None:
    found = find_learning_rate(prepare_small(), make_observer())
    write_lr_find(tmp_path / "lr_find.json", found.to_json())

    assert found == find_learning_rate(prepare_small(), make_observer())
    assert found.suggestion is not None
    assert LOWEST_RATE < found.suggestion < found.rate <= PEAK_FACTOR * found.suggestion
    assert found.rate < HIGHEST_RATE
    assert found.adjustment.field == "learning_rate"
    assert (found.adjustment.requested, found.adjustment.effective) == (0.002, found.rate)
    curve = json.loads((tmp_path / "lr_find.json").read_text())
    assert len(curve["rates"]) == len(curve["losses"]) == len(curve["smoothed"])
    assert curve["rates"] == sorted(curve["rates"])
    assert min(curve["losses"]) < curve["losses"][0]


def test_each_loss_is_the_mean_over_the_windows_of_its_optimizer_step(
    prepare_small: Callable[..., PreparedRun],
) -> None:
    # An epoch of 5 batches, the last one partial: the second step holds two batches of unequal size.
    changes: dict[str, Any] = {"dropout": 0.0, "batch_size": 16, "static_categoricals": []}
    by_batches = prepare_small(accumulate_grad_batches=3, **changes)
    at_once = prepare_small(**(changes | {"batch_size": 48}))
    assert len(by_batches.train_batches) % 3
    assert by_batches.train_batches.size % 16

    split = find_learning_rate(by_batches, ShortOfTime(6)).losses
    whole = find_learning_rate(at_once, ShortOfTime(6)).losses

    assert len(split) == 6
    assert split == pytest.approx(whole, rel=1e-4)


def test_a_wish_to_stop_is_obeyed(prepare_small: Callable[..., PreparedRun], make_observer: Any) -> None:
    with pytest.raises(StopRequested):
        find_learning_rate(prepare_small(), make_observer(wish="cancel", at_step=-1))


def test_where_the_test_tells_nothing_the_rate_that_was_asked_for_stays(
    prepare_small: Callable[..., PreparedRun],
) -> None:
    found = find_learning_rate(prepare_small(learning_rate=0.003), ShortOfTime(2))

    assert (found.suggestion, found.rate) == (None, 0.003)
    assert (found.adjustment.requested, found.adjustment.effective) == (0.003, 0.003)
    assert "stays" in found.adjustment.reason
