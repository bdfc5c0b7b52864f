"""Windows a second in training, ours and the peers', from the real trainers, in turns, a process each.

    python -m benchmarks.throughput --data FILE --peers-python .venv-peers/bin/python [--case hidden128]

By processor time (`--clock` for the wall), so that a busy machine does little harm; the best of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet import Fleet, read_fleet
from benchmarks.store import ROOT

TARGETS = ("cpu_percent", "memory_percent")
PEERS = ("neuralforecast", "darts")
CONTESTANTS = ("ours", "pytorch-forecasting", *PEERS)


@dataclass(frozen=True)
class Case:
    """What is trained, and how many steps are timed."""

    encoder_length: int = 48
    horizon: int = 12
    hidden: int = 32
    copies: int = 1  # of the servers
    first: int = 20
    last: int = 220


CASES = {
    "W": Case(),
    "servers10": Case(copies=10),
    "hidden128": Case(hidden=128, first=10, last=60),
    # Few windows fit into a day: copies, so that an epoch has steps enough.
    "long": Case(encoder_length=168, horizon=24, copies=10, first=10, last=60),
}


def fleet_of(data: Path, case: Case) -> Fleet:
    """200 servers, or copies of them under other names."""
    fleet = read_fleet(
        data, TARGETS, servers=200, new=0, encoder_length=case.encoder_length, horizon=case.horizon
    )
    names = tuple(f"{name}-{copy}" for copy in range(case.copies) for name in fleet.servers)
    times, table = (np.concatenate([part] * case.copies) for part in (fleet.times, fleet.table))
    return replace(fleet, servers=names, seen=len(names), times=times, table=table)


def measure(contestant: str, fleet_file: Path, case: Case, batch: int, options: argparse.Namespace) -> float:
    """Windows a second. Raises CalledProcessError where the program fails."""
    python = str(options.peers_python) if contestant in PEERS else sys.executable
    asked: dict[str, Any] = {
        "contestant": contestant,
        "fleet": fleet_file,
        "batch": batch,
        "hidden": case.hidden,
        "threads": options.threads,
        "first": case.first,
        "last": case.last,
    }
    command = [python, "-m", "benchmarks.throughput_run"]
    command += [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=options.log, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found["clock" if options.clock else "processor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--case", choices=list(CASES), default="W")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", action="store_true", help="by the wall instead of processor time")
    options = parser.parse_args()
    case = CASES[options.case]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as options.log:
        fleet_file = Path(folder) / "fleet.npz"
        fleet = fleet_of(options.data, case)
        if fleet.train_windows < case.last * max(options.batches):
            # Ours validates behind each epoch, the others never: that must not be timed.
            raise ValueError(f"an epoch of {fleet.train_windows} windows ends before step {case.last}")
        fleet.save(fleet_file)
        print(f"{options.case}, {options.threads} threads\n{'batch':>6} {'contestant':<20} {'windows/s':>10}")
        for batch in options.batches:
            best: dict[str, float] = {}
            for _ in range(options.rounds):
                for contestant in options.contestants:
                    found = measure(contestant, fleet_file, case, batch, options)
                    best[contestant] = max(best.get(contestant, 0.0), found)
            for contestant, speed in best.items():
                print(f"{batch:>6} {contestant:<20} {speed:10.0f}", flush=True)
            rivals = [speed for contestant, speed in best.items() if contestant != "ours"]
            if rivals and "ours" in best:
                print(
                    f"{batch:>6} {'ours to the fastest':<20} {best['ours'] / max(rivals):10.2f}", flush=True
                )


if __name__ == "__main__":
    main()
