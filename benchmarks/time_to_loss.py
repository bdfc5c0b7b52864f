"""How soon our trainer is as good as the plain baseline ever gets, both from the start of their processes.

    python -m benchmarks.time_to_loss --data FILE.parquet
    python -m benchmarks.time_to_loss --data FILE.parquet --epochs 2 --options '{"batch_size": 128}'

The threshold is the median over the baseline's seeds of its best `val_loss` (stock's definition, on every
validation window), and its time the median of the times to its own best. Ours is the median of the times at
which the second validation in a row below the threshold has ended; a seed that never gets there counts as
infinite. The last 20 % of each series are the validation. Finished runs are stored: what was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.fleet import read_fleet
from benchmarks.store import DEFAULT_STORE, ROOT, RunKey, Store, code_sha256, machine_sha256
from benchmarks.time_to_loss_run import BASELINE, OURS
from foretrain.sample_data import write_sample

if TYPE_CHECKING:
    from benchmarks.fleet import Fleet

HERE = Path(__file__).resolve().parent
IN_A_ROW = 2
_CODE = {
    BASELINE: (HERE / "fleet.py", HERE / "time_to_loss_run.py", HERE / "baseline.py"),
    OURS: (HERE / "fleet.py", HERE / "time_to_loss_run.py", HERE / "ours.py", ROOT / "trainer"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    asked = parser.parse_args()
    print(json.dumps(compare(asked, Store(asked.store))))
    return 0


def compare(asked: argparse.Namespace, store: Store) -> dict[str, float]:
    """Run what is not in the store, print a line for each run, and give the medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        fleet = _fleet(asked, Path(folder))
    plain = {"epochs": asked.baseline_epochs, "options": {"workers": asked.workers}}
    own = {"epochs": asked.epochs, "options": asked.options}
    settings = {BASELINE: plain, OURS: own}
    runs = {
        name: [
            _run(name, settings[name] | {"seed": seed, "threads": asked.threads}, fleet, store)
            for seed in asked.seeds
        ]
        for name in (BASELINE, OURS)
    }
    return _report(runs[BASELINE], runs[OURS], asked)


def threshold_of(runs: list[dict[str, Any]]) -> float:
    """The median of the best losses."""
    return float(median(min(run["val_losses"]) for run in runs))


def seconds_to_best(run: dict[str, Any]) -> float:
    """When the validation with the least loss had ended."""
    losses = run["val_losses"]
    return float(run["validation_ends"][losses.index(min(losses))])


def seconds_to_stay_below(run: dict[str, Any], threshold: float) -> float:
    """When the second validation in a row below the threshold had ended; infinite if that never came."""
    row = 0
    for loss, end in zip(run["val_losses"], run["validation_ends"], strict=True):
        row = row + 1 if loss < threshold else 0
        if row == IN_A_ROW:
            return float(end)
    return math.inf


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `compare` reads."""
    parser.add_argument("--data", type=Path, help="Default: the synthetic fleet of `foretrain sample-data`.")
    parser.add_argument("--targets", nargs=2, default=["cpu_percent", "memory_percent"])
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--baseline-epochs", type=int, default=12)
    parser.add_argument("--workers", type=int, default=0, help="The baseline's loader workers.")
    parser.add_argument("--epochs", type=int, default=3, help="Ours; the schedule ends with the last one.")
    parser.add_argument("--options", type=json.loads, default={}, help="Other fields of our TrainingSpec.")
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)


def _fleet(asked: argparse.Namespace, folder: Path) -> Fleet:
    path = asked.data
    if path is None:
        path = write_sample(folder / "fleet.parquet", fleet=asked.servers).path
    return read_fleet(path, asked.targets, servers=asked.servers, new=0, test=0.0)


def _run(contestant: str, settings: dict[str, Any], fleet: Fleet, store: Store) -> dict[str, Any]:
    """The facts of one run, from the store or by running it."""
    print(f"{contestant}, seed {settings['seed']}", file=sys.stderr, flush=True)
    code = code_sha256(*_CODE[contestant])
    key = RunKey(f"time-to-loss-{contestant}", settings, fleet.sha256(), code, machine_sha256())
    found = store.find(key)
    if found is None:
        found = _in_own_process(contestant, settings, fleet)
        store.keep(key, found)
    return found


def _in_own_process(contestant: str, settings: dict[str, Any], fleet: Fleet) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        fleet_file, out = Path(folder) / "fleet.npz", Path(folder) / "facts.json"
        fleet.save(fleet_file)
        command = [sys.executable, "-m", "benchmarks.time_to_loss_run", "--contestant", contestant]
        command += ["--fleet", str(fleet_file), "--out", str(out)]
        command += ["--options", json.dumps(settings["options"])]
        for name in ("seed", "epochs", "threads"):
            command += [f"--{name}", str(settings[name])]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(settings["threads"])}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        facts: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return facts


def _report(
    baseline: list[dict[str, Any]], ours: list[dict[str, Any]], asked: argparse.Namespace
) -> dict[str, float]:
    threshold = threshold_of(baseline)
    print("| program | seed | val_loss at the end of each epoch | s from process start |")
    print("|---|---|---|---|")
    for seed, run in zip(asked.seeds, baseline, strict=True):
        print(f"| {BASELINE} | {seed} | {_losses(run)} | {seconds_to_best(run):.1f} to its best |")
    for seed, run in zip(asked.seeds, ours, strict=True):
        seconds = seconds_to_stay_below(run, threshold)
        print(f"| {OURS} | {seed} | {_losses(run)} | {seconds:.1f} to two below {threshold:.4f} |")
    plain = median(seconds_to_best(run) for run in baseline)
    own = median(seconds_to_stay_below(run, threshold) for run in ours)
    return {"threshold": threshold, "baseline_s": plain, "ours_s": own, "time_to_loss_ratio": own / plain}


def _losses(run: dict[str, Any]) -> str:
    return " ".join(f"{loss:.3f}" for loss in run["val_losses"])


if __name__ == "__main__":
    sys.exit(main())
