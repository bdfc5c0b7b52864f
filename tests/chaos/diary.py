"""What was done to the service, when, and what it should have done about it but did not."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import psycopg

if TYPE_CHECKING:
    from tests.chaos.stage import Stage, Victim

# What a service that does not do as it should makes of our own requests; the run goes on.
TROUBLE = (AssertionError, httpx2.HTTPError, psycopg.Error, OSError, KeyError, ValueError)


@dataclass(frozen=True)
class Fault:
    """One kind of fault. `inject` does it once, and looks at what must follow at once.

    `times`: how often in a full run. `cases`: numbers in the list of cases (docs/decisions/0011).
    """

    kind: str
    inject: Callable[[Stage], None]
    times: int
    cases: str


@dataclass(frozen=True)
class Hit:
    """A run that a fault has ended; `at` in seconds since 1970."""

    kind: str
    at: float
    job_id: str
    attempt: int


@dataclass
class Diary:
    """Of one run of the suite."""

    says: bool = True
    seconds: float = math.inf  # for injecting
    injected: Counter[str] = field(default_factory=Counter)
    hits: list[Hit] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)

    def is_time_up(self) -> bool:
        return time.monotonic() - self.started_at > self.seconds

    def carry_out(self, fault: Fault, stage: Stage) -> None:
        """Injects it once; whatever state that leaves is healed."""
        complaints = len(self.complaints)
        try:
            fault.inject(stage)
        except TROUBLE as problem:
            self.complaints.append(f"{fault.kind}: {problem!r}")
        self.injected[fault.kind] += 1
        stage.heal()
        ailment = "; ".join(self.complaints[complaints:])
        self.say(f"{fault.kind}{': ' + ailment if ailment else ''}")

    def note_hit(self, kind: str, victim: Victim) -> None:
        """Call it just before the blow."""
        self.hits.append(Hit(kind, time.time(), victim.job_id, victim.attempt))

    def expect(self, fulfilled: object, promise: str) -> None:
        if not fulfilled:
            self.complaints.append(promise)

    def say(self, text: str) -> None:
        if self.says:
            sys.stdout.write(f"{time.monotonic() - self.started_at:7.1f} s  {text}\n")
            sys.stdout.flush()
