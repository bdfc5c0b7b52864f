"""A small fleet for the benchmarks' tests."""

from __future__ import annotations

import numpy as np

from benchmarks.fleet import Fleet


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
