"""`/metrics` beside the tables it speaks of, all through a run. Imports nothing of ours.

A scrape is of some moment of the last seconds, while jobs move on: what it counts must lie between what the
tables held before that moment and what they hold after the scrape, and is never less than the scrape before
counted. Once nothing changes, it must be equal; leases that ran out lie between bounds then too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeAlias

import httpx2
import psycopg
from prometheus_client.parser import text_string_to_metric_families

PERIOD_SECONDS = 1.0
KEPT_SECONDS = 5.0  # so old a scrape may be (docs/monitoring.md)
MOST_WAITED_SECONDS = 10.0
EXAMPLES = 5
# What counts and never falls, by the labels that tell its series apart.
ENDS = "foretrain_job_duration_seconds_count"
RUNS = "foretrain_attempt_duration_seconds_count"
EXPIRED = "foretrain_leases_expired_total"
JOBS = "foretrain_jobs"
LABELS = {ENDS: ("status", "reason"), RUNS: ("outcome",)}
# Ends and leases by the events, runs by the attempts. A lease that ran out on a job with a wish, or on its
# last attempt, ended that job; nothing tells those from other ends, so they bound the number from above.
TABLES = """
    SELECT 'ends', substr(type, 5), CASE type WHEN 'job.failed' THEN data->>'code' ELSE '' END, count(*)
      FROM job_events WHERE type IN ('job.succeeded', 'job.failed', 'job.cancelled') GROUP BY 2, 3
    UNION ALL
    SELECT 'runs', outcome, '', count(*) FROM job_attempts WHERE outcome IS NOT NULL GROUP BY 2
    UNION ALL
    SELECT 'requeued', data->>'reason', '', count(*) FROM job_events WHERE type = 'job.queued' GROUP BY 2
    UNION ALL
    SELECT 'jobs', '', '', count(*) FROM jobs
    UNION ALL
    SELECT 'unfinished', status, queue, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY 2, 3
"""
TROUBLE = (psycopg.Error, httpx2.HTTPError, OSError)

Series: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """What the tables held before `at`, in this process's monotonic seconds."""

    at: float
    counts: Counter[Series]
    expired: tuple[int, int]  # at least and at most
    made: int
    unfinished: Counter[Series]

    @property
    def ended(self) -> int:
        return sum(count for series, count in self.counts.items() if series[0] == ENDS)


@dataclass(frozen=True)
class Scraped:
    counts: Counter[Series]
    expired: int
    unfinished: Counter[Series]


class Scraper:
    """Looks on from a thread of its own, while the block lasts; `differences`: what did not agree."""

    def __init__(self, dsn: str, api_url: str) -> None:
        self.compared = 0
        self.differences: list[str] = []
        self._dsn = dsn
        self._http = httpx2.Client(base_url=api_url, timeout=5.0)
        self._over = threading.Event()
        self._last: Scraped | None = None
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._pool.submit(self._look_on).add_done_callback(self._note_end)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def stop(self) -> None:
        self._over.set()
        self._pool.shutdown()

    def settle(self, within_seconds: float = KEPT_SECONDS + MOST_WAITED_SECONDS) -> None:
        """Call it once nothing changes: the tables' ends, runs and jobs must then be the scrape's, each one.

        Leases that ran out are only bounded. Who does not answer has until then as well.
        """
        self.stop()
        until = time.monotonic() + within_seconds
        while differences := self._differences_now():
            if time.monotonic() > until:
                self.differences += [f"in the end {one}" for one in differences]
                return
            time.sleep(PERIOD_SECONDS)
        self.compared += 1

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.compared} scrapes of /metrics compared with the tables and the scrape before, "
            f"the last one count by count, leases by their bounds; differences: {len(self.differences)}"
        )
        yield from (f"    {one}" for one in self.differences[:EXAMPLES])

    def _look_on(self) -> None:
        earlier: list[Held] = []
        while not self._over.wait(PERIOD_SECONDS):
            try:
                earlier.append(self._read_tables())
                asked_at = time.monotonic()
                scraped = self._scrape()
                after = self._read_tables()
            except TROUBLE:
                continue  # a fault has taken the API or the database away; there is nothing to compare
            old_enough = [held for held in earlier if held.at <= asked_at - KEPT_SECONDS]
            if scraped is not None and old_enough:
                self.compared += 1
                self.differences += _out_of_bounds(old_enough[-1], scraped, after)
                earlier = [one for one in earlier if one.at >= old_enough[-1].at]

    def _note_end(self, looking: Future[None]) -> None:
        """A thread that has died compares nothing, which would look like agreement."""
        error = looking.exception()
        if error is not None:
            self.differences.append(f"the scraper itself died: {error!r}")

    def _differences_now(self) -> list[str]:
        try:
            return list(_unequal(self._read_tables(), self._scrape()))
        except TROUBLE as error:
            return [f"no answer: {error!r}"]

    def _read_tables(self) -> Held:
        with psycopg.connect(self._dsn, autocommit=True, connect_timeout=5) as connection:
            rows = connection.execute(TABLES).fetchall()
        counts: Counter[Series] = Counter()
        unfinished: Counter[Series] = Counter()
        requeued: Counter[str] = Counter()
        made = 0
        for what, first, second, count in rows:
            if what == "ends":
                counts[ENDS, first, second] = count
            elif what == "runs":
                counts[RUNS, first] = count
            elif what == "requeued":
                requeued[first] = count
            elif what == "unfinished":
                unfinished[first, second] = count
            else:
                made = count
        sure = requeued["worker_lost"]
        others = sum(counts[RUNS, one] for one in ("failed", "cancelled", "paused", "succeeded"))
        return Held(time.monotonic(), counts, (sure, sure + others), made, unfinished)

    def _scrape(self) -> Scraped | None:
        """None where the API itself has no database. What has fallen since the scrape before is noted."""
        answer = self._http.get("/metrics")
        answer.raise_for_status()
        counts: Counter[Series] = Counter()
        unfinished: Counter[Series] = Counter()
        expired = -1
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                if sample.name == EXPIRED:
                    expired = int(sample.value)
                elif sample.name == JOBS:
                    unfinished[sample.labels["status"], sample.labels["queue"]] = int(sample.value)
                elif sample.name in LABELS:
                    series = (sample.name, *(sample.labels[label] for label in LABELS[sample.name]))
                    counts[series] = int(sample.value)
        if expired < 0:
            return None
        scraped = Scraped(counts, expired, unfinished)
        if self._last is not None:
            self.differences += _fallen(self._last, scraped)
        self._last = scraped
        return scraped


def _fallen(before: Scraped, scraped: Scraped) -> Iterator[str]:
    for series, count in before.counts.items():
        if scraped.counts[series] < count:
            yield f"{' '.join(series)}: fell from {count} to {scraped.counts[series]}"
    if scraped.expired < before.expired:
        yield f"{EXPIRED}: fell from {before.expired} to {scraped.expired}"


def _out_of_bounds(before: Held, scraped: Scraped, after: Held) -> Iterator[str]:
    for series in before.counts.keys() | scraped.counts.keys() | after.counts.keys():
        low, seen, high = before.counts[series], scraped.counts[series], after.counts[series]
        if not low <= seen <= high:
            yield f"{' '.join(series)}: {seen}, by the tables {low} to {high}"
    if not before.expired[0] <= scraped.expired <= after.expired[1]:
        yield f"{EXPIRED}: {scraped.expired}, by the tables {before.expired[0]} to {after.expired[1]}"
    seen = scraped.unfinished.total()
    low, high = before.made - after.ended, after.made - before.ended
    if not low <= seen <= high:
        yield f"{JOBS}: {seen}, by the tables {low} to {high}"


def _unequal(held: Held, scraped: Scraped | None) -> Iterator[str]:
    if scraped is None:
        yield "nothing but database_up is exported"
        return
    for series in held.counts.keys() | scraped.counts.keys():
        if held.counts[series] != scraped.counts[series]:
            yield f"{' '.join(series)}: {scraped.counts[series]}, by the tables {held.counts[series]}"
    if not held.expired[0] <= scraped.expired <= held.expired[1]:
        yield f"{EXPIRED}: {scraped.expired}, by the tables {held.expired[0]} to {held.expired[1]}"
    if +held.unfinished != +scraped.unfinished:
        yield f"{JOBS}: {dict(+scraped.unfinished)}, by the tables {dict(+held.unfinished)}"
