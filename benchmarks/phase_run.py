"""One stage of the three-phase benchmark, in a process of its own so that its memory is its own.

Nothing is imported before the stage is known: memory is counted over what the stage's own imports hold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.fleet import load_fleet

if TYPE_CHECKING:
    from benchmarks.fleet import Fleet

BASELINE = "baseline"
WORKERS = "loader-workers"
# The trial that settles the baseline's loader workers takes this many servers.
TRIAL_SERVERS = 12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()
    fleet = load_fleet(asked.fleet)
    run = {BASELINE: _baseline, WORKERS: _quicker_workers}.get(asked.stage, _ours)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = run(fleet, asked, Path(folder))
    asked.out.write_text(json.dumps(facts), encoding="utf-8")


def _baseline(fleet: Fleet, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from benchmarks.baseline import train_baseline  # noqa: PLC0415

    done = train_baseline(
        fleet.frame("seen"),
        list(fleet.targets),
        _cut(fleet),
        folder,
        epochs=asked.epochs,
        seed=asked.seed,
        threads=asked.threads,
        workers=asked.options["workers"],
    )
    return {
        "seconds": done.seconds,
        "peak_bytes": done.peak_bytes,
        "val_losses": done.val_losses,
        "epoch_ends": done.epoch_ends,
        "windows_seen": asked.epochs * done.train_windows,
        "workers": done.workers,
    }


def _quicker_workers(fleet: Fleet, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The baseline's own trial of 0 and 2 workers; apart, as its memory is not the baseline's."""
    from benchmarks.baseline import train_baseline  # noqa: PLC0415

    frame = fleet.frame("seen")
    few = frame[frame["server"].isin(fleet.servers[:TRIAL_SERVERS])]
    done = train_baseline(
        few, list(fleet.targets), _cut(fleet), folder, epochs=1, seed=asked.seed, threads=asked.threads
    )
    return {"workers": done.workers}


def _ours(fleet: Fleet, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    from benchmarks.ours import Listener, spec_of, write_group  # noqa: PLC0415
    from trainer.recipe import train  # noqa: PLC0415

    torch.set_num_threads(asked.threads)
    spec = spec_of(fleet, seed=asked.seed, epochs=asked.epochs, options=asked.options)
    data, listener = write_group(fleet, "seen", folder), Listener()
    result = train(spec, data, folder / "out", listener).result or {}
    return {
        "seconds": listener.phases["validating"],
        "peak_bytes": listener.peaks["validating"],
        "val_losses": listener.val_losses,
        "windows_seen": result["steps"] * result["resolved_spec"]["effective_batch_size"],
        "seconds_with_artifacts": result["duration_seconds"],
        "adjustments": result["adjustments"],
        "resolved_spec": result["resolved_spec"],
    }


def _cut(fleet: Fleet) -> Any:
    from benchmarks.baseline import Cut  # noqa: PLC0415

    return Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)


if __name__ == "__main__":
    main()
