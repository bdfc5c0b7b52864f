"""`python -m tests.chaos`: faults by the hundred against a real deployment, and a count of what came of it.

Exit code 0: every promise was kept. What is drawn, by `--seed`, is the order of the faults and what each one
does; how the processes interleave is the machine's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from tests.chaos import measures, programme
from tests.chaos.diary import Fault
from tests.chaos.measures import Measured
from tests.chaos.stage import SHIPPED, TENFOLD, Stage, raised
from tests.chaos.tables import fault_table, verdict_table

SEED = 20261123


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    _write(f"seed {options.seed}")
    kept = True
    if options.part in {"all", "faults"}:
        with raised(TENFOLD, options.seed) as stage:
            stage.start(options.workers)
            kept &= _faults(stage, options)
    if options.part in {"all", "shipped"}:
        with raised(SHIPPED, options.seed) as stage:
            kept &= _conclude(stage, measures.at_shipped_settings(stage))
    return 0 if kept else 1


def _faults(stage: Stage, options: argparse.Namespace) -> bool:
    chosen = [fault for fault in programme.FAULTS if not options.only or fault.kind in options.only]
    if options.times:
        chosen = [replace(fault, times=options.times) for fault in chosen]
    programme.storm(stage, [fault for fault in chosen if fault.kind not in programme.ALONE], options.seed)
    measured = []
    if not options.only:
        measured.append(measures.without_broker(stage))
        programme.alone(stage, [fault for fault in chosen if fault.kind in programme.ALONE], options.seed)
        measured.append(measures.with_the_real_trainer(stage))
    return _conclude(stage, *measured, faults=programme.FAULTS)


def _conclude(stage: Stage, *measured: Measured, faults: Sequence[Fault] = ()) -> bool:
    verdict = programme.rule(stage)
    if faults:
        _write(fault_table(faults, stage))
    broken = []
    for one in measured:
        _write("", *one.lines())
        broken += one.broken()
    _write(verdict_table(verdict, stage.diary), *(f"out of bounds: {name}" for name in broken))
    return verdict.is_clean() and not stage.diary.complaints and not broken


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="repeats a run's faults")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--part", choices=["all", "faults", "shipped"], default="all")
    parser.add_argument("--only", action="append", choices=programme.BY_KIND, help="this kind of fault")
    parser.add_argument("--times", type=int, help="of each kind, instead of what each kind has by itself")
    return parser.parse_args(arguments)


def _write(*texts: str) -> None:
    for text in texts:
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
