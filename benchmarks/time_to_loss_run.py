"""One training of the time-to-loss benchmark, in a process of its own whose start is second zero.

Imports, compilation, reading the data and every validation count. The data arrive as a file that the parent
wrote; our trainer and the baseline each read it in their own way.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.fleet import Fleet
    from trainer.events import TrainerEvent

BASELINE, OURS = "baseline", "ours"
_STARTED_TICKS = 19  # place of the start time among what follows the name in /proc/self/stat


def seconds_since_start() -> float:
    """Since the kernel started this process. Linux only."""
    after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    started_at = int(after_name[_STARTED_TICKS]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_at


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--contestant", choices=[BASELINE, OURS], required=True)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()

    from benchmarks.fleet import load_fleet  # noqa: PLC0415 - what it loads is on the clock, like the rest

    run = _baseline if asked.contestant == BASELINE else _ours
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = run(load_fleet(asked.fleet), asked, Path(folder))
    asked.out.write_text(json.dumps(facts), encoding="utf-8")


def _baseline(fleet: Fleet, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from benchmarks.baseline import Cut, train_baseline  # noqa: PLC0415

    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)
    frame = fleet.frame("seen")
    before = seconds_since_start()
    done = train_baseline(
        frame,
        list(fleet.targets),
        cut,
        folder,
        epochs=asked.epochs,
        seed=asked.seed,
        threads=asked.threads,
        workers=asked.options["workers"],
    )
    ends = [before + seconds for seconds in done.epoch_ends]
    return {"val_losses": done.val_losses, "validation_ends": ends}


def _ours(fleet: Fleet, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    from benchmarks.ours import spec_of, write_group  # noqa: PLC0415
    from trainer.recipe import train  # noqa: PLC0415

    torch.set_num_threads(asked.threads)
    clock = _ValidationClock()
    spec = spec_of(fleet, seed=asked.seed, epochs=asked.epochs, options=asked.options)
    train(spec, write_group(fleet, "seen", folder), folder / "out", clock)
    return {"val_losses": clock.val_losses, "validation_ends": clock.validation_ends}


class _ValidationClock:
    """The observer of a run that notes when each validation ended; wishes nothing."""

    def __init__(self) -> None:
        self.val_losses: list[float] = []
        self.validation_ends: list[float] = []

    def report(self, event: TrainerEvent) -> None:
        if event.type == "metrics" and event.values.get("val_loss") is not None:
            self.val_losses.append(float(event.values["val_loss"] or 0.0))
            self.validation_ends.append(seconds_since_start())

    def stop_wish(self) -> None:
        return None


if __name__ == "__main__":
    main()
