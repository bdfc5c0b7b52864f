from __future__ import annotations

from typing import Any

import pytest

from trainer.callbacks import StopWatch
from trainer.observer import StopRequested
from trainer.reporting import ScalarLog
from trainer.run_size import RunSize


def test_a_cancel_is_obeyed_in_the_middle_of_a_validation(make_observer: Any) -> None:
    watch = StopWatch(make_observer(wish="cancel", at_step=-1), deadline=None)

    with pytest.raises(StopRequested):
        watch.on_validation_batch_end()


@pytest.mark.parametrize(("step", "epoch"), [(0, 1), (1, 1), (10, 1), (11, 2), (20, 2)])
def test_a_step_belongs_to_the_epoch_it_ends_in(step: int, epoch: int) -> None:
    size = RunSize(epochs=2, steps_per_epoch=10, total_steps=20, effective_batch_size=8)

    assert size.epoch_of(step) == epoch


def test_a_number_that_is_none_is_reported_as_missing(make_observer: Any, tmp_path: Any) -> None:
    observer = make_observer()
    log = ScalarLog(observer, tmp_path)

    log.add(3, 1, {"train_loss": float("nan"), "grad_norm": 0.5})
    log.close()

    assert observer.events[0].values == {"train_loss": None, "grad_norm": 0.5}
    assert [(point.name, point.value) for point in log.points] == [("train_loss", None), ("grad_norm", 0.5)]
