"""Training speed on ten times as many servers: `python -m benchmarks.many_servers --data FILE`.

Workload W and ten copies of its servers under other names, in turns, a process each; the median of the pairs'
ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.peers import OURS, Race
from benchmarks.workloads import WORKLOADS, fleet_of

SMALL, LARGE = "W", "servers10"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, (Path(name) / "log").open("w") as log:
        races = {}
        for case in (SMALL, LARGE):
            fleet, file = fleet_of(asked.data, WORKLOADS[case]), Path(name) / f"{case}.npz"
            fleet.save(file)
            races[case] = Race(file, fleet.sha256(), WORKLOADS[case], asked.threads, None, log)
        print("| batch | pair | W, windows/s | ten times the servers | ratio |\n|---|---|---|---|---|")
        for batch in asked.batches:
            ratios = []
            for pair in range(1, asked.pairs + 1):
                small, large = (races[case].run(OURS, batch, asked.seconds, {}).by_clock for case in races)
                ratios.append(large / small)
                print(f"| {batch} | {pair} | {small:,.0f} | {large:,.0f} | {ratios[-1]:.2f} |", flush=True)
            print(f"| {batch} | median | | | {median(ratios):.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
