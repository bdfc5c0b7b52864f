"""From a job's claim to its first optimizer step, part by part: python -m benchmarks.cold_start [--rounds 5]

A warm child (`trainer.warm`, its libraries loaded) and a cold one (`trainer`) get the same small job: servers
with a day at 5-minute steps, encoder 48, horizon 12, two targets, one thread. Each round is a new process; of
each part the least processor time and the least clock time of all rounds are shown, from the order on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.large_file import write_fleet
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.spec import TrainingSpec

STEPS = 288
SPEC = TrainingSpec(
    target_metrics=["cpu_percent", "memory_percent"], encoder_length=48, horizon=12, log_every_n_steps=1
)
IDLE_SECONDS = 1.0
LOADED_CPU_SECONDS = 1.0
PARTS = {
    "preparing": "imports that are left, spec and schema read",
    "resolved": "data read, split, scaled; network built",
    "training": "learning-rate search, warnings",
    "progress": "Lightning's Trainer, optimizer",
    "metrics": "first step, its report",
}


@dataclass(frozen=True)
class Moment:
    """Since the order, at an event."""

    cpu_seconds: float
    seconds: float


def lay_out_job(folder: Path, servers: int) -> None:
    data = folder / "dataset.parquet"
    write_fleet(data, servers, STEPS)
    schema = inspect(data, "parquet", DatasetMapping())
    for name, content in (("spec", SPEC.model_dump_json()), ("schema", schema.model_dump_json())):
        (folder / f"{name}.json").write_text(content, encoding="utf-8")
    (folder / "mapping.json").write_text("{}", encoding="utf-8")


def run(folder: Path, *, warm: bool) -> dict[str, Moment]:
    """Start one child, give it the job, end it after its first step."""
    arguments = ["trainer.warm"] if warm else ["trainer", str(folder), "--threads", "1"]
    ordered_at = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            spent = 0.0
            if warm:
                spent = _wait_until_idle(child)
                ordered_at = time.monotonic()
                order = {"run_dir": str(folder), "threads": 1, "memory_limit": None, "memory_kills": 0}
                stdin = _pipe(child.stdin)
                stdin.write(json.dumps(order).encode() + b"\n")
                stdin.flush()
            moments: dict[str, Moment] = {}
            for name in _events(child):
                moments.setdefault(
                    name, Moment(cpu_seconds(child.pid) - spent, time.monotonic() - ordered_at)
                )
                if name == "metrics":
                    return moments
            raise SystemExit("the child ended before its first step")
        finally:
            child.kill()


def _events(child: subprocess.Popen[bytes]) -> Iterator[str]:
    for line in _pipe(child.stdout):
        event = json.loads(line)
        yield event.get("phase", event["type"])


def _wait_until_idle(child: subprocess.Popen[bytes]) -> float:
    before = -1.0
    while (now := cpu_seconds(child.pid)) > before + IDLE_SECONDS / 100 or now < LOADED_CPU_SECONDS:
        before = now
        time.sleep(IDLE_SECONDS)
    return now


def cpu_seconds(pid: int) -> float:
    """Of another process: Linux has a clock for each, numbered so."""
    return time.clock_gettime(~pid << 3 | 2)


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the process was started without a pipe")
    return stream


def table(rounds: list[dict[str, Moment]]) -> list[str]:
    """What each part added, of the rounds the least; and the whole."""
    lines, names = [], list(PARTS)
    for place, name in enumerate(names):
        parts = [
            (each[name].cpu_seconds, each[name].seconds)
            if not place
            else (
                each[name].cpu_seconds - each[names[place - 1]].cpu_seconds,
                each[name].seconds - each[names[place - 1]].seconds,
            )
            for each in rounds
        ]
        cpu, clock = (min(part[which] for part in parts) for which in (0, 1))
        lines.append(f"| {PARTS[name]} | {cpu:.3f} | {clock:.3f} |")
    last = [each[names[-1]] for each in rounds]
    cpu, clock = min(each.cpu_seconds for each in last), min(each.seconds for each in last)
    return [*lines, f"| order to first step | {cpu:.3f} | {clock:.3f} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--only", choices=["warm", "cold"])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lay_out_job(Path(folder), asked.servers)
        for kind in [asked.only] if asked.only else ["warm", "cold"]:
            print(f"\n| {kind} child | CPU s | s |\n|---|---|---|", flush=True)
            rounds = [run(Path(folder), warm=kind == "warm") for _ in range(asked.rounds)]
            print("\n".join(table(rounds)), flush=True)


if __name__ == "__main__":
    main()
