"""What a training step costs beyond the step itself: Lightning's loop, hooks, callbacks, reports.

    python -m benchmarks.overhead --data FILE [--batches 32 128] [--rounds 3]

The trainer's own `fit` against a bare loop that gathers a batch, runs forward and backward pass, clips and
updates, in turns on one thread. Milliseconds of processor time a step, the least of all rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.ours import spec_of, write_group
from benchmarks.workloads import WORKLOADS, fleet_of
from trainer.fit import fit
from trainer.hardware import detect_hardware
from trainer.keeping import RESUME_STATE, StateKeeper
from trainer.noise import library_noise_off
from trainer.prepare import prepare
from trainer.recipe import CHECKPOINT_SECONDS
from trainer.state import identity_of

if TYPE_CHECKING:
    from trainer.prepare import PreparedRun
    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec

FIRST, LAST = 20, 120


class StepClock:
    """An observer that times the steps between FIRST and LAST; wishes nothing."""

    def __init__(self) -> None:
        self._began_at = 0.0
        self.step_ms = 0.0

    def passed(self, step: int) -> None:
        if step == FIRST:
            self._began_at = time.process_time()
        elif step == LAST:
            self.step_ms = 1e3 * (time.process_time() - self._began_at) / (LAST - FIRST)

    def report(self, event: Any) -> None:
        if event.type == "metrics" and "train_loss" in event.values:
            self.passed(event.step)

    def stop_wish(self) -> None:
        return None


def in_the_trainer(spec: TrainingSpec, data: DatasetFile, run: PreparedRun, folder: Path) -> float:
    clock = StepClock()
    keeper = StateKeeper(
        folder / RESUME_STATE, partial(identity_of, spec, data), clock, CHECKPOINT_SECONDS, None
    )
    with library_noise_off():
        fit(run, folder, clock, keeper, started_at=time.monotonic())
    return clock.step_ms


def in_a_bare_loop(spec: TrainingSpec, run: PreparedRun) -> float:
    model, clock = run.model.train(), StepClock()
    optimizer: Any = model.configure_optimizers()
    for step, batch in enumerate(run.train_batches, start=1):
        loss = model.training_step(batch, step - 1)
        torch.autograd.backward(loss)
        model.on_after_backward()
        model.configure_gradient_clipping(optimizer, spec.gradient_clip_val)
        optimizer.step()
        model.optimizer_zero_grad()
        clock.passed(step)
        if step == LAST:
            break
    return clock.step_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fleet = fleet_of(options.data, WORKLOADS["W"])
    print(f"{'batch':>6} {'bare ms':>9} {'trainer ms':>11} {'overhead':>9}")
    with tempfile.TemporaryDirectory() as folder:
        data = write_group(fleet, "seen", Path(folder))
        for batch in options.batches:
            asked = {"batch_size": batch, "max_steps": LAST, "log_every_n_steps": FIRST}
            spec = spec_of(fleet, seed=1, epochs=100, options=asked)
            bare = trained = float("inf")
            for number in range(options.rounds):
                bare = min(bare, in_a_bare_loop(spec, prepare(spec, data, detect_hardware())))
                out = Path(folder) / f"{batch}-{number}"
                run = prepare(spec, data, detect_hardware())
                trained = min(trained, in_the_trainer(spec, data, run, out))
            print(f"{batch:>6} {bare:9.2f} {trained:11.2f} {trained / bare - 1.0:9.1%}", flush=True)


if __name__ == "__main__":
    main()
