"""One training on several processes of a CPU: are its losses those of one, and what does a step cost.

    python -m benchmarks.devices --data FILE [--devices 1 2] [--batch 64] [--steps 60]

Each number of processes trains the same spec with dropout off, one after the other, one thread a process.
The losses are those of each optimizer step and of the validation at the end; the difference is relative, the
largest there is. Milliseconds a step, without the first ten: of the clock, and of the first process's own
processor time.
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
from trainer.parallel.crew import Crew
from trainer.parallel.ranks import AgreedObserver, Ranks
from trainer.prepare import prepare
from trainer.recipe import CHECKPOINT_SECONDS
from trainer.state import identity_of

if TYPE_CHECKING:
    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec

WARM_UP = 10


class Losses:
    """An observer that keeps every loss, and what the steps between the first and the last have taken."""

    def __init__(self) -> None:
        self.by_step: dict[tuple[int, str], float] = {}
        self._times: dict[int, tuple[float, float]] = {}

    def report(self, event: Any) -> None:
        if event.type != "metrics":
            return
        if "train_loss" in event.values:
            self._times[event.step] = (time.monotonic(), time.process_time())
        for name, value in event.values.items():
            if "loss" in name:
                self.by_step[event.step, name] = value

    def stop_wish(self) -> None:
        return None

    def step_ms(self) -> tuple[float, float]:
        """Of the clock and of the processor."""
        last = max(self._times)
        spans = (self._times[last][place] - self._times[WARM_UP][place] for place in (0, 1))
        clock, processor = (1e3 * span / (last - WARM_UP) for span in spans)
        return clock, processor


def train_on(devices: int, spec: TrainingSpec, data: DatasetFile, folder: Path) -> Losses:
    losses, hardware, ranks = Losses(), detect_hardware(), Ranks(count=devices)
    with library_noise_off(), Crew(spec, data, hardware, ranks, folder) as crew:
        run = prepare(spec, data, hardware, folder, ranks)
        observer = AgreedObserver(losses, ranks)
        whose = partial(identity_of, spec, data)
        keeper = StateKeeper(folder / RESUME_STATE, whose, observer, CHECKPOINT_SECONDS, None)
        with crew.at_work(run, None):
            fit(run, folder, observer, keeper, started_at=time.monotonic())
    return losses


def largest_difference(ours: Losses, theirs: Losses, name: str) -> float:
    places = [place for place in theirs.by_step if place[1].startswith(name)]
    return max(abs(ours.by_step[place] / theirs.by_step[place] - 1.0) for place in places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fleet = fleet_of(options.data, WORKLOADS["W"])
    with tempfile.TemporaryDirectory() as name:
        data = write_group(fleet, "seen", Path(name))
        first = None
        print(f"{'devices':>7} {'train_loss':>11} {'val_loss':>9} {'clock ms':>9} {'processor ms':>13}")
        for devices in options.devices:
            asked = {
                "batch_size": options.batch,
                "max_steps": options.steps,
                "log_every_n_steps": 1,
                "dropout": 0.0,
                "devices": devices,
            }
            folder = Path(name) / str(devices)
            folder.mkdir()
            losses = train_on(devices, spec_of(fleet, seed=1, epochs=100, options=asked), data, folder)
            first = first or losses
            apart = [largest_difference(losses, first, kind) for kind in ("train_loss", "val_loss")]
            clock, processor = losses.step_ms()
            print(f"{devices:>7} {apart[0]:11.1e} {apart[1]:9.1e} {clock:9.1f} {processor:13.1f}", flush=True)


if __name__ == "__main__":
    main()
