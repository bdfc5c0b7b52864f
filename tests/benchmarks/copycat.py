"""A contestant that trains nothing: it repeats the last value, and counts how often it was started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contestant import Forecasts, contestant_main
from benchmarks.fleet import QUANTILES

if TYPE_CHECKING:
    import argparse

    from benchmarks.fleet import Fleet


def run(fleet: Fleet, asked: argparse.Namespace) -> tuple[Forecasts, dict[str, Any]]:
    with Path(asked.options["starts"]).open("a") as starts:
        starts.write(f"{asked.seed}\n")
    if "exit" in asked.options:
        raise SystemExit(asked.options["exit"])
    return {
        ("last", group, part): _repeated(fleet, group, part, asked.options.get("value"))
        for group, part in (("seen", "validation"), ("seen", "test"), ("new", "test"))
    }, {"seconds": 0.0}


def _repeated(fleet: Fleet, group: Any, part: Any, value: float | None) -> Any:
    last = fleet.table[fleet.of(group)][:, fleet.origins(part) - 1]
    last = last if value is None else np.full_like(last, value)
    spread = np.array(QUANTILES) - 0.5
    return np.repeat((last[..., None] + spread)[:, :, None], fleet.horizon, axis=2)


if __name__ == "__main__":
    contestant_main(run)
