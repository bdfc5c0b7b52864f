"""`python -m tests.chaos`: faults by the hundred against a real deployment, and a count of what came of it.

Exit code 0: every promise was kept. What is drawn, by `--seed`, is the order of the faults and what each one
does; how the processes interleave is the machine's.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos import measures, programme
from tests.chaos.diary import Fault
from tests.chaos.measures import Measured
from tests.chaos.paces import SHIPPED, TENFOLD, Pace
from tests.chaos.scraper import Scraper
from tests.chaos.stage import Stage, raised
from tests.chaos.tables import fault_table, verdict_table

SEED = 20261123
SCRAPES_PER_FAULT = 0.5

Play = Callable[[Stage, Sequence[Fault], int], list[Measured]]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    # Ended from outside, it still ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    faults = [fault for fault in programme.FAULTS if not options.only or fault.kind in options.only]
    if options.times:
        faults = [replace(fault, times=options.times) for fault in faults]
    _write(f"seed {options.seed}")
    kept, injected = True, 0
    for part in [options.part] if options.part else PARTS:
        pace, play = PARTS[part]
        with raised(pace, options.seed, options.logs and options.logs / part) as stage:
            stage.diary.seconds = options.minutes * 60
            with Scraper(stage.dsn, stage.api_url) as scraper:
                measured = play(stage, faults, options.seed)
                kept &= _conclude(stage, measured, scraper)
            injected += stage.diary.injected.total()
    _write("", f"{injected} faults injected; {'every promise was kept' if kept else 'PROMISES WERE BROKEN'}")
    return 0 if kept else 1


def _storm(stage: Stage, faults: Sequence[Fault], seed: int) -> list[Measured]:
    stage.start(workers=3)
    programme.storm(stage, [fault for fault in faults if fault.kind not in programme.ALONE], seed)
    return []


def _one_by_one(stage: Stage, faults: Sequence[Fault], seed: int) -> list[Measured]:
    stage.start(workers=3)
    measured = [measures.without_broker(stage)]
    programme.alone(stage, [fault for fault in faults if fault.kind in programme.ALONE], seed)
    return [*measured, measures.with_the_real_trainer(stage)]


def _shipped(stage: Stage, _faults: Sequence[Fault], _seed: int) -> list[Measured]:
    return [measures.at_shipped_settings(stage)]


PARTS: dict[str, tuple[Pace, Play]] = {
    "storm": (TENFOLD, _storm),
    "one by one": (TENFOLD, _one_by_one),
    "shipped": (SHIPPED, _shipped),
}


def _conclude(stage: Stage, measured: Sequence[Measured], scraper: Scraper) -> bool:
    verdict = programme.rule(stage)
    scraper.settle()
    enough = stage.diary.injected.total() * SCRAPES_PER_FAULT
    stage.diary.expect(scraper.compared >= enough, f"only {scraper.compared} scrapes could be compared")
    _write(fault_table(programme.FAULTS, stage))
    broken = []
    for one in measured:
        _write("", *one.lines())
        broken += one.broken()
    _write(verdict_table(verdict, stage.diary), *scraper.lines())
    _write(*(f"out of bounds: {name}" for name in broken))
    is_clean = verdict.is_clean() and not scraper.differences
    return is_clean and not stage.diary.complaints and not broken


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="repeats a run's faults")
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--only", action="append", choices=programme.BY_KIND, help="this kind of fault")
    parser.add_argument("--minutes", type=float, default=30, help="for the storm, at most")
    parser.add_argument("--logs", type=Path, help="a folder to keep the processes' logs in")
    parser.add_argument("--times", type=int, help="of each kind, instead of what each kind has by itself")
    return parser.parse_args(arguments)


def _write(*texts: str) -> None:
    for text in texts:
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
