"""A small fleet for the benchmarks' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.fleet import Fleet

if TYPE_CHECKING:
    from pathlib import Path

# Some batches of training windows, and a dozen to validate on, at the benchmarks' own encoder and horizon.
SHORT_DAY_STEPS = 120


def small_fleet(servers: int = 4, seen: int = 2, steps: int = 60, noise: float = 1.0) -> Fleet:
    """Waves around levels of their own, two targets; encoder 6, horizon 3, tails of 12 and 6 steps."""
    random = np.random.default_rng(7)
    time = np.arange(steps)[None, :, None]
    level = random.uniform(20, 60, (servers, 1, 2))
    table = level + 5 * np.sin(2 * np.pi * time / 12) + random.normal(0, noise, (servers, steps, 2))
    starts = np.datetime64("2026-01-05", "us") + np.arange(servers)[:, None] * np.timedelta64(1, "D")
    return Fleet(
        servers=tuple(f"server-{number}" for number in range(servers)),
        seen=seen,
        targets=("cpu_percent", "memory_percent"),
        times=starts + np.arange(steps) * np.timedelta64(300, "s"),
        table=table.astype(np.float32),
        encoder_length=6,
        horizon=3,
        validation_steps=12,
        test_steps=6,
    )


def write_short_day(path: Path, servers: int = 3) -> Path:
    """A file as the benchmarks read it; the sample data's whole day takes them half a minute longer."""
    fleet = small_fleet(servers, servers, SHORT_DAY_STEPS)
    frame = fleet.frame("seen").drop(columns="time_idx")
    frame["timestamp"] = pd.DatetimeIndex(frame["timestamp"]).tz_localize("UTC")
    frame.to_parquet(path)
    return path
