"""Steps as people write them. Plain Python: the service's schemas need it."""

from __future__ import annotations

SECOND = 1_000_000  # microseconds
STEP_PATTERN = r"^[1-9][0-9]{0,6}(s|min|h|d)$"
_UNITS = {"s": SECOND, "min": 60 * SECOND, "h": 3600 * SECOND, "d": 86_400 * SECOND}


def parse_frequency(text: str) -> int:
    """`30s`, `5min`, `1h`, `1d` in microseconds."""
    digits = text.rstrip("smindh")
    return int(digits) * _UNITS[text[len(digits) :]]
