"""`python -m tests.fuzz`: tens of thousands of made-up requests by two tenants, and what was answered.

Exit code 0: no server error, no answer that the document does not allow, no ignored key, no tenant that sees
another's; at least REQUESTS requests, and of each operation at least SUCCESSES answers of 2xx.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.fuzz.campaign import Answers, Effort, Run, run
from tests.fuzz.report import requests_made, successes, table, together
from tests.fuzz.stand import TENANTS, Stand, serving

REQUESTS = 20_000
SUCCESSES = 20
MOST_AGAIN = 6
SEED = 20261123


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--examples", type=int, default=250, help="made up for each operation and tenant")
    parser.add_argument("--only", nargs="*", default=[], metavar="OPERATION", help="of these alone")
    options = parser.parse_args()
    slow = max(30, options.examples // 10)
    effort = Effort(options.examples, slow, sequences=60, only=tuple(options.only))
    with tempfile.TemporaryDirectory(prefix="ft-fuzz-") as folder:
        home = Path(folder)
        with serving(home, copies=15) as stand:
            runs = [run(stand, tenant, effort, options.seed, home / tenant) for tenant in TENANTS]
            runs += _again(stand, effort, options.seed, home, runs)
    return _conclude(runs)


def _again(stand: Stand, effort: Effort, seed: int, home: Path, runs: list[Run]) -> list[Run]:
    """Operations without a parameter have few cases that differ: they are asked in more runs of their own."""
    more: list[Run] = []
    for number in range(1, MOST_AGAIN + 1):
        rare = _rare(together(one.answers for one in [*runs, *more]))
        if not rare:
            break
        for tenant in TENANTS:
            folder = home / f"{tenant}-{number}"
            more.append(run(stand, tenant, replace(effort, only=tuple(rare)), seed + number, folder))
    return more


def _rare(answers: Answers) -> list[str]:
    return [name for name, by_status in answers.items() if successes(by_status) < SUCCESSES]


def _conclude(runs: list[Run]) -> int:
    answers = together(one.answers for one in runs)
    _write(table(answers))
    rare = _rare(answers)
    kept = [
        (all(one.is_clean for one in runs), "every check held"),
        (requests_made(answers) >= REQUESTS, f"at least {REQUESTS:,} requests"),
        (not rare, f"at least {SUCCESSES} answers of 2xx for each operation {rare or ''}"),
    ]
    for is_kept, promise in kept:
        _write(f"{'yes' if is_kept else 'NO '} {promise}")
    for one in runs:
        if not one.is_clean:
            _write(one.said)
    return 0 if all(is_kept for is_kept, _ in kept) else 1


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
