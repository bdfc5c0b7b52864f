"""Ours and its peers in one run: windows a second in training, memory, time to the baseline's best loss.

    python -m benchmarks.peers --data FILE --peers-python .venv-peers/bin/python
    python -m benchmarks.peers --data FILE --peers-python .venv-peers/bin/python --case hidden128

Each in a process of its own, in turns. First each peer's quickest setting is searched (loader workers, fused
optimizer, torch.compile) and stored; then rounds at those settings, so many seconds of steady state each. A
window counts once its own encoder and decoder went through forward, backward and an optimizer step. Ratios
are medians over the rounds, of the clock. Memory is the most PSS of the process and its children, over what
the imports hold. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import time_to_loss
from benchmarks.memory import family_bytes
from benchmarks.store import ROOT, RunKey, Store, code_sha256, describe_machine, machine_sha256
from benchmarks.workloads import WORKLOADS, Workload, fleet_of

HERE = Path(__file__).resolve().parent
OURS, BASELINE = "ours", "pytorch-forecasting"
WITH_OWN_PYTHON = ("neuralforecast", "darts")
CONTESTANTS = (OURS, BASELINE, *WITH_OWN_PYTHON)
# Tried one after the other, each on top of what was quicker before it.
OPTIONS: tuple[dict[str, Any], ...] = ({"workers": 1}, {"workers": 2}, {"fused": True}, {"compile": True})
SEARCH_SECONDS = 6.0
PATIENCE_SECONDS = 240.0  # for what is not timed: imports, data, compilation
SAMPLE_SECONDS = 0.5
MIB = 2**20


@dataclass(frozen=True)
class Speed:
    """What one process did."""

    windows: int
    clock: float  # seconds
    processor: float  # seconds, without those of loader processes
    warm_up: float  # seconds before the first step that counts
    memory: int  # bytes, the most of the process and its children, over the imports
    versions: dict[str, str]

    @property
    def by_clock(self) -> float:
        """Windows a second."""
        return self.windows / self.clock

    @property
    def by_processor(self) -> float:
        """Windows a second of processor time."""
        return self.windows / self.processor


@dataclass(frozen=True)
class Race:
    """Who runs on what."""

    fleet_file: Path
    fleet_sha256: str
    workload: Workload
    threads: int
    peers_python: Path | None
    log: Any

    def run(self, contestant: str, batch: int, seconds: float, options: dict[str, Any]) -> Speed:
        """Raises CalledProcessError where the program fails, TimeoutExpired where it takes too long."""
        asked: dict[str, Any] = {
            "contestant": contestant,
            "fleet": self.fleet_file,
            "batch": batch,
            "hidden": self.workload.hidden,
            "threads": self.threads,
            "seconds": seconds,
            "options": json.dumps(options),
        }
        python = str(self.peers_python) if contestant in WITH_OWN_PYTHON else sys.executable
        command = [python, "-m", "benchmarks.peer_run"]
        command += [word for name, value in asked.items() for word in (f"--{name}", str(value))]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(self.threads)}
        if contestant == OURS:
            environment["OMP_WAIT_POLICY"] = "PASSIVE"  # as our trainer's own program, by trainer/threads.py
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True
        ) as program:
            peak = _watch(program, seconds + PATIENCE_SECONDS)
            answer = program.stdout.read() if program.stdout else ""
        if program.returncode:
            raise subprocess.CalledProcessError(program.returncode, command)
        found = json.loads(answer.strip().splitlines()[-1])
        return Speed(memory=peak - found.pop("imported_bytes"), **found)


def _watch(program: subprocess.Popen[str], patience: float) -> int:
    """The most memory of a program and its children until it ends. Raises TimeoutExpired, and ends it."""
    peak, until = 0, time.monotonic() + patience
    while True:
        try:
            program.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            peak = max(peak, family_bytes(program.pid))
            if time.monotonic() > until:
                program.kill()
                raise
        else:
            return peak


def quickest_options(race: Race, contestant: str, batch: int, store: Store) -> dict[str, Any]:
    """A peer's best setting here, searched once for the same versions, data and machine."""
    plain = race.run(contestant, batch, SEARCH_SECONDS, {})
    settings = {
        "batch": batch,
        "threads": race.threads,
        "hidden": race.workload.hidden,
        "versions": plain.versions,
    }
    code = code_sha256(HERE / "peer_run.py")
    key = RunKey(f"settings-{contestant}", settings, race.fleet_sha256, code, machine_sha256())
    found = store.find(key)
    if found is None:
        found = _searched(race, contestant, batch, plain)
        store.keep(key, found)
    tried = ", ".join(f"{name} {speed:.0f}" for name, speed in found["tried"].items())
    print(
        f"{contestant}, batch {batch}: {found['options'] or 'as it comes'} (windows/s: {tried})", flush=True
    )
    print(f"    {', '.join(f'{name} {one}' for name, one in plain.versions.items())}", flush=True)
    chosen: dict[str, Any] = found["options"]
    return chosen


def _searched(race: Race, contestant: str, batch: int, plain: Speed) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    best = plain.by_clock
    tried: dict[str, float] = {"as it comes": best}
    for more in OPTIONS:
        options = chosen | more
        try:
            speed = race.run(contestant, batch, SEARCH_SECONDS, options).by_clock
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            speed = 0.0  # it cannot
        tried[json.dumps(options)] = speed
        if speed > best:
            chosen, best = options, speed
    return {"options": chosen, "tried": tried}


def race_once(
    race: Race, batch: int, settings: dict[str, dict[str, Any]], number: int, seconds: float
) -> dict[str, Speed]:
    """One round, told as it goes."""
    speeds = {}
    for contestant, options in settings.items():
        one = speeds[contestant] = race.run(contestant, batch, seconds, options)
        print(
            f"| {batch} | {number} | {contestant} | {one.by_clock:,.0f} | {one.by_processor:,.0f} "
            f"| {one.warm_up:.1f} | {one.memory / MIB:.0f} |",
            flush=True,
        )
    return speeds


def ratio_to_fastest_peer(rounds: list[dict[str, Speed]]) -> float:
    """The median over the rounds: ours to the quickest of the others in the same round."""
    return median(
        speeds[OURS].by_clock / max(one.by_clock for name, one in speeds.items() if name != OURS)
        for speeds in rounds
    )


def memory_ratio(rounds: list[dict[str, Speed]]) -> float:
    """Ours to the plain baseline's, the median of each."""
    ours, baseline = (median(speeds[name].memory for speeds in rounds) for name in (OURS, BASELINE))
    return ours / baseline


def main() -> int:
    asked = _arguments()
    store = Store(asked.store)
    contestants: tuple[str, ...] = CONTESTANTS
    if asked.peers_python is None:
        contestants = (OURS, BASELINE)
        print("without --peers-python: neuralforecast and darts are left out", file=sys.stderr)
    print(f"{asked.case}, {asked.threads} threads, {json.dumps(describe_machine())}", flush=True)
    figures: dict[str, Any] = {"ratio_to_fastest_peer": {}}
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        workload = WORKLOADS[asked.case]
        fleet = fleet_of(asked.data, workload)
        fleet_file = Path(folder) / "fleet.npz"
        fleet.save(fleet_file)
        race = Race(fleet_file, fleet.sha256(), workload, asked.threads, asked.peers_python, log)
        # The smaller the batch, the more a setting can save.
        settings: dict[str, dict[str, Any]] = {OURS: {}}
        for name in contestants[1:]:
            found = (
                quickest_options(race, name, min(asked.batches), store)
                if asked.search
                else asked.peer_options
            )
            settings[name] = found
        print("| batch | round | trainer | windows/s | of processor time | warm-up, s | MiB |")
        print("|---|---|---|---|---|---|---|")
        rounds: dict[int, list[dict[str, Speed]]] = {batch: [] for batch in asked.batches}
        for number in range(1, asked.rounds + 1):
            for batch in asked.batches:
                rounds[batch].append(race_once(race, batch, settings, number, asked.seconds))
    for batch, done in rounds.items():
        figures["ratio_to_fastest_peer"][str(batch)] = round(ratio_to_fastest_peer(done), 3)
    if asked.time_to_loss:
        asked.workers = settings[BASELINE].get("workers", 0)
        figures["time_to_loss_ratio"] = round(time_to_loss.compare(asked, store)["time_to_loss_ratio"], 3)
    figures["memory_ratio"] = round(memory_ratio(rounds[asked.batches[-1]]), 3)
    print(json.dumps(figures))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    time_to_loss.add_arguments(parser)
    parser.add_argument("--peers-python", type=Path, help="Of the environment with requirements-peers.txt.")
    parser.add_argument("--case", choices=list(WORKLOADS), default="W")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--peer-options", type=json.loads, default={}, help='Without a search, such as {"fused": true}.'
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="Of steady state, in each round.")
    parser.add_argument(
        "--time-to-loss",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="The baseline's part of it takes the better part of an hour; finished runs are stored.",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
