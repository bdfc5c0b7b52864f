"""The frame of a contestant's program: a fleet in, forecasts and facts out. Needs numpy and pandas alone."""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.fleet import Fleet, load_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

# (weights: best or last, group: seen or new, part: validation or test)
# -> (servers, origins, horizon, targets, quantiles), original units
Forecasts = dict[tuple[str, str, str], npt.NDArray[np.float32]]


def contestant_main(run: Callable[[Fleet, argparse.Namespace], tuple[Forecasts, dict[str, Any]]]) -> None:
    """Parse the command line of a contestant's program, run it, write `--out` as npz and json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--contestant", required=True)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="Without a suffix.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--options", type=json.loads, default={})
    asked = parser.parse_args()
    fleet = load_fleet(asked.fleet)
    forecasts, facts = run(fleet, asked)
    for key, array in forecasts.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{asked.contestant}: forecasts of {key} are not all numbers")
    arrays = {"/".join(key): array.astype(np.float32) for key, array in forecasts.items()}
    np.savez(asked.out.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    facts = facts | {"versions": versions()}
    asked.out.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")


def read_forecasts(path: Path) -> Forecasts:
    """What a contestant wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {_key(name): file[name] for name in file.files}


def _key(name: str) -> tuple[str, str, str]:
    weights, group, part = name.split("/")
    return weights, group, part


def versions() -> dict[str, str]:
    """Of the libraries that decide a figure, those that are installed here."""
    found = {}
    for name in ("torch", "lightning", "pytorch-lightning", "pytorch-forecasting", "neuralforecast", "darts"):
        try:
            found[name] = version(name)
        except ImportError:
            continue
    return found
