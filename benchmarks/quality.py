"""Forecast quality beside the last value, plain pytorch-forecasting, neuralforecast and darts, over seeds.

    python -m benchmarks.quality --data ../shared/data/google_vms_24h.parquet --contestants ours baseline

Every finished run is stored, so that a run that was cut off goes on where it ended; `--until 21:00` starts
nothing after that time of day.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from subprocess import CalledProcessError

from benchmarks.contestant import read_forecasts
from benchmarks.contestants import CONTESTANTS, Contestant, run_contestant
from benchmarks.fleet import Fleet, read_fleet
from benchmarks.naive import naive_forecasts
from benchmarks.quality_tables import AllScores, quality_tables
from benchmarks.scoring import Scores, score_forecasts, scoring_sha256
from benchmarks.store import DEFAULT_STORE, RunKey, Store


def main() -> int:
    asked = _arguments()
    fleet = read_fleet(asked.data, asked.targets, first=asked.first, servers=asked.servers, new=asked.new)
    store = Store(asked.store)
    failures = 0 if asked.table_only else _run_all(fleet, store, asked)
    if not asked.no_table:
        print(quality_tables(_all_scores(fleet, store, asked), fleet.targets))
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["cpu_percent", "memory_percent"])
    parser.add_argument("--first", type=int, default=0, help="Server names to leave out, in sorted order.")
    parser.add_argument("--servers", type=int, default=200, help="Servers to train on.")
    parser.add_argument("--new", type=int, default=200, help="Servers after them, never seen in training.")
    parser.add_argument("--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--spec", type=json.loads, default={}, help="JSON: fields of the spec that ours is tried with."
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE)
    parser.add_argument("--peers-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--until", type=_time_of_day, help="HH:MM; start no run after this time of day.")
    parser.add_argument("--no-table", action="store_true", help="Only run.")
    parser.add_argument("--table-only", action="store_true", help="Run nothing, show what is stored.")
    return parser.parse_args()


def _time_of_day(text: str) -> datetime:
    wanted = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - the machine's own clock, as `date` shows
    return datetime.combine(datetime.now().astimezone().date(), wanted).astimezone()


def _run_all(fleet: Fleet, store: Store, asked: argparse.Namespace) -> int:
    """One run of each contestant, then the next seed; how many failed."""
    failures = 0
    for seed in asked.seeds:
        for name in asked.contestants:
            if asked.until is not None and datetime.now().astimezone() >= asked.until:
                _say(f"it is past {asked.until:%H:%M}: nothing more is started")
                return failures
            failures += not _run_one(name, seed, fleet, store, asked)
    return failures


def _run_one(name: str, seed: int, fleet: Fleet, store: Store, asked: argparse.Namespace) -> bool:
    _say(f"{name}, seed {seed}")
    started_at = time.monotonic()
    try:
        run_contestant(
            _contestant(name, asked),
            fleet,
            store,
            seed=seed,
            epochs=asked.epochs,
            threads=asked.threads,
            peers_python=asked.peers_python,
        )
    except CalledProcessError as error:
        _say(f"{name}, seed {seed} failed ({error.returncode}); its log is in {store.folder}")
        return False
    _say(f"{name}, seed {seed}: {time.monotonic() - started_at:.0f} s")
    return True


def _contestant(name: str, asked: argparse.Namespace) -> Contestant:
    contestant = CONTESTANTS[name]
    return replace(contestant, options=asked.spec) if name == "ours" else contestant


def _all_scores(fleet: Fleet, store: Store, asked: argparse.Namespace) -> AllScores:
    """Of what the store holds."""
    scores: AllScores = {
        name: {0: score_forecasts(fleet, forecasts)} for name, forecasts in naive_forecasts(fleet).items()
    }
    data = fleet.sha256()
    for name in asked.contestants:
        for seed in asked.seeds:
            key = _contestant(name, asked).key(data, seed=seed, epochs=asked.epochs)
            if store.find(key) is not None:
                scores.setdefault(name, {})[seed] = _scores(fleet, store, key)
    return scores


def _scores(fleet: Fleet, store: Store, key: RunKey) -> Scores:
    """Kept with the run, and taken anew when the code that scores has changed."""
    facts, scoring = store.find(key) or {}, scoring_sha256()
    if facts.get("scoring_sha256") != scoring:
        found = score_forecasts(fleet, read_forecasts(store.path(key, ".npz")))
        facts |= {"scoring_sha256": scoring, "scores": found}
        store.keep(key, facts)
    scores: Scores = facts["scores"]
    return scores


def _say(text: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
