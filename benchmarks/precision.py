"""Losses of bf16-mixed beside those of 32-true on this CPU: `python -m benchmarks.precision --data FILE`.

A CPU without bfloat16 instructions computes the same numbers in software, slowly, which the service does not:
it falls back to 32-true. Here it is told that it has them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.fleet import Fleet, read_fleet
from benchmarks.ours import Listener, spec_of, write_group
from benchmarks.seeds import estimate, paired_change
from benchmarks.workloads import TARGETS
from trainer.hardware import detect_hardware
from trainer.precision import BF16_CPU_FLAGS
from trainer.recipe import train

PRECISIONS = ("32-true", "bf16-mixed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--servers", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    fleet = read_fleet(asked.data, TARGETS, servers=asked.servers, new=0, test=0.0)
    curves: dict[str, list[list[float]]] = {}
    for precision in PRECISIONS:
        seeds = range(1, asked.seeds + 1)
        curves[precision] = [_val_losses(fleet, precision, seed, asked.epochs) for seed in seeds]
    print("| epoch | 32-true | bf16-mixed | difference, paired by seed |\n|---|---|---|---|")
    for epoch in range(asked.epochs):
        single, half = ([curve[epoch] for curve in curves[name]] for name in PRECISIONS)
        cells = [f"{one.mean:.4f} ± {one.half_width:.4f}" for one in (estimate(single), estimate(half))]
        apart = paired_change(dict(enumerate(half)), dict(enumerate(single)))
        change = f"{100 * apart.mean:+.2f} ± {100 * apart.half_width:.2f} %" if apart else ""
        print(f"| {epoch + 1} | {cells[0]} | {cells[1]} | {change} |")
    return 0


def _val_losses(fleet: Fleet, precision: str, seed: int, epochs: int) -> list[float]:
    """Of each epoch. Raises RuntimeError if another precision was trained with."""
    here = detect_hardware()
    able = replace(here, cpu_flags=here.cpu_flags | BF16_CPU_FLAGS)
    listener = Listener()
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(fleet, seed=seed, epochs=epochs, options={"precision": precision})
        data, out = write_group(fleet, "seen", Path(folder)), Path(folder) / "out"
        result = train(spec, data, out, listener, hardware=able).result
    effective = (result or {})["resolved_spec"]["precision"]
    if effective != precision:
        raise RuntimeError(f"{precision} was asked for, {effective} was trained with")
    print(f"{precision}, seed {seed}: {' '.join(f'{loss:.4f}' for loss in listener.val_losses)}", flush=True)
    return listener.val_losses


if __name__ == "__main__":
    sys.exit(main())
