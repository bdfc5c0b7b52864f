"""What was answered, by operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tests.fuzz.campaign import Answers


def together(parts: Iterable[Answers]) -> Answers:
    """The sum."""
    whole: Answers = {}
    for part in parts:
        for name, by_status in part.items():
            whole[name] = whole.get(name, Counter()) + by_status
    return whole


def requests_made(answers: Answers) -> int:
    return sum(by_status.total() for by_status in answers.values())


def successes(by_status: Counter[int]) -> int:
    """Answers of 2xx."""
    return sum(times for status, times in by_status.items() if 200 <= status < 300)


def table(answers: Answers) -> str:
    """One line an operation: requests, 2xx, and each status."""
    lines = [f"{'operation':26}{'requests':>9}{'2xx':>7}  statuses"]
    for name, by_status in sorted(answers.items()):
        statuses = ", ".join(f"{status}: {times}" for status, times in sorted(by_status.items()))
        lines.append(f"{name:26}{by_status.total():9,}{successes(by_status):7,}  {statuses}")
    lines.append(f"{'all':26}{requests_made(answers):9,}")
    return "\n".join(lines)
