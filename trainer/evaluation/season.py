"""The season of seasonal-naive: the longest of week, day and hour that the training part holds twice."""

from __future__ import annotations

from dataclasses import dataclass

_SEASONS = (("week", 604_800), ("day", 86_400), ("hour", 3_600))
_TOLERANCE = 0.01
_FEWEST_STEPS = 2


@dataclass(frozen=True)
class Season:
    """A season of so many steps."""

    name: str
    steps: int


def choose_season(training_steps: int, frequency_seconds: float) -> tuple[Season | None, str]:
    """The season, or None, and the reason for it."""
    for name, seconds in _SEASONS:
        steps = round(seconds / frequency_seconds)
        whole = abs(steps * frequency_seconds - seconds) <= _TOLERANCE * seconds
        if whole and steps >= _FEWEST_STEPS and 2 * steps <= training_steps:
            return Season(name, steps), (
                f"a season of {steps} steps (one {name}) is the longest that fits twice into the "
                f"{training_steps} steps of the training part"
            )
    return None, (
        f"no week, day or hour of at least {_FEWEST_STEPS} whole steps of {frequency_seconds:g} s fits twice "
        f"into the {training_steps} steps of the training part"
    )
