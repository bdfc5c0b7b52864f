"""What scripted trainings do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What a scripted training does. Seconds, but for the counts of steps and the size of a checkpoint."""

    steps: int = 20
    step_seconds: float = 0.1
    save_every: int = 8
    size_bytes: int = 30_000
    stop_seconds: float = 0.0
    saving_seconds: float = 0.0
    behaviour: str = "train"
