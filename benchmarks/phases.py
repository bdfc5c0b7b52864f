"""Baseline, + phase 1, + phase 2, + phase 3 on the same 24 hours: time, peak memory and validation loss.

    python -m benchmarks.phases                    the 200-server fleet of `foretrain sample-data`, 20 epochs
    python -m benchmarks.phases --data FILE.parquet --epochs 6

Each stage runs in a process of its own. Seconds count from the data at hand to the trained weights, with
the validation after each epoch; memory is the peak over what the imports hold; `val_loss` is that of
pytorch-forecasting, on every validation window. Finished runs are stored: what was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet import Fleet, read_fleet
from benchmarks.phase_run import BASELINE, WORKERS
from benchmarks.phase_table import phase_table
from benchmarks.store import DEFAULT_STORE, ROOT, RunKey, Store, code_sha256, machine_sha256
from foretrain.sample_data import write_sample

HERE = Path(__file__).resolve().parent
MODULE = "benchmarks.phase_run"
_FRAME = (HERE / "fleet.py", HERE / "phase_run.py")


@dataclass(frozen=True)
class Stage:
    """One line of the table; `options` are the fields of TrainingSpec that it sets, for our trainer."""

    title: str
    options: dict[str, Any]


# As the baseline trains: its batch, rate, clip, schedule and number of epochs.
_AS_BASELINE = {
    "batch_size": 32,
    "learning_rate": 0.01,
    "lr_schedule": "plateau",
    "warmup_fraction": 0.0,
    "gradient_clip_val": 0.1,
    "early_stopping_patience": 0,
    "lr_monitor_interval": "none",
}
# What each phase adds is in MISSION's table; a field that a later phase sets replaces an earlier one's.
_PHASE_2 = _AS_BASELINE | {
    "auto_lr_find": True,
    "lr_monitor_interval": "step",
    "lr_schedule": "onecycle",
    "warmup_fraction": 0.1,
}
_PHASE_3 = _PHASE_2 | {
    "precision": "bf16-mixed",  # where the hardware has it; falls back to 32-true and says so
    "batch_size": 64,
    "accumulate_grad_batches": 2,
    "early_stopping_patience": 5,
}
STAGES = {
    BASELINE: Stage("baseline: pytorch-forecasting", {}),
    "phase-1": Stage("+ phase 1: our loader and network, checkpoints, TensorBoard, seed", _AS_BASELINE),
    "phase-2": Stage("+ phase 2: learning-rate finder and monitor, onecycle, progress", _PHASE_2),
    "phase-3": Stage("+ phase 3: mixed precision, accumulation, early stopping", _PHASE_3),
}


def main() -> int:
    asked = _arguments()
    store = Store(asked.store)
    with tempfile.TemporaryDirectory() as folder:
        fleet = _fleet(asked, Path(folder))
    facts = {
        name: [_run_stage(name, fleet, store, asked, seed) for seed in asked.seeds] for name in asked.stages
    }
    print(phase_table({STAGES[name].title: runs for name, runs in facts.items()}))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="Default: the synthetic fleet of `foretrain sample-data`.")
    parser.add_argument("--targets", nargs=2, default=["cpu_percent", "memory_percent"])
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    return parser.parse_args()


def _fleet(asked: argparse.Namespace, folder: Path) -> Fleet:
    path = asked.data
    if path is None:
        path = write_sample(folder / "fleet.parquet", fleet=asked.servers).path
    return read_fleet(path, asked.targets, servers=asked.servers, new=0)


def _run_stage(name: str, fleet: Fleet, store: Store, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The facts of one run, from the store or by running it."""
    print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
    options = STAGES[name].options
    if name == BASELINE:
        options = _run_once(WORKERS, {}, fleet, store, asked, seed)
    return _run_once(name, options, fleet, store, asked, seed)


def _run_once(
    stage: str, options: dict[str, Any], fleet: Fleet, store: Store, asked: argparse.Namespace, seed: int
) -> dict[str, Any]:
    settings = {"seed": seed, "epochs": asked.epochs, "threads": asked.threads, "options": options}
    code = code_sha256(*_FRAME, *_code_of(stage))
    key = RunKey(f"phases-{stage}", settings, fleet.sha256(), code, machine_sha256())
    found = store.find(key)
    if found is None:
        found = _in_own_process(stage, fleet, settings)
        store.keep(key, found)
    return found


def _code_of(stage: str) -> tuple[Path, ...]:
    if stage in {BASELINE, WORKERS}:
        return (HERE / "baseline.py",)
    return HERE / "ours.py", HERE / "memory.py", ROOT / "trainer"


def _in_own_process(stage: str, fleet: Fleet, settings: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        fleet_file, out = Path(folder) / "fleet.npz", Path(folder) / "facts.json"
        fleet.save(fleet_file)
        command = [sys.executable, "-m", MODULE, "--stage", stage, "--fleet", str(fleet_file)]
        command += ["--out", str(out), "--options", json.dumps(settings["options"])]
        for name in ("seed", "epochs", "threads"):
            command += [f"--{name}", str(settings[name])]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(settings["threads"])}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        facts: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return facts


if __name__ == "__main__":
    sys.exit(main())
