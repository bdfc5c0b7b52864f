"""`python -m tests.chaos`: faults by the hundred against a real deployment, and a count of what came of it.

Exit code 0: every promise was kept. What is drawn, by `--seed`, is the order of the faults and what each one
does; how the processes interleave is the machine's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from tests.chaos import programme
from tests.chaos.stage import TENFOLD, raised
from tests.chaos.tables import fault_table, verdict_table

SEED = 20261123


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    chosen = [programme.BY_KIND[kind] for kind in options.only] if options.only else list(programme.FAULTS)
    if options.times:
        chosen = [replace(fault, times=options.times) for fault in chosen]
    _write(f"seed {options.seed}")
    with raised(TENFOLD, options.seed) as stage:
        stage.start(options.workers)
        programme.storm(stage, [one for one in chosen if one.kind not in programme.ALONE], options.seed)
        if not options.only:
            programme.alone(stage, options.seed)
            stage.add_worker().start()
        verdict = programme.rule(stage)
        _write(fault_table(programme.FAULTS, stage), verdict_table(verdict, stage.diary))
        return 0 if verdict.is_clean() and not stage.diary.complaints else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="repeats a run's faults")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--times", type=int, help="of each kind, instead of what each kind has by itself")
    parser.add_argument("--only", action="append", choices=programme.BY_KIND, help="this kind of fault")
    return parser.parse_args(arguments)


def _write(*texts: str) -> None:
    for text in texts:
        sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
