"""The database's state in Prometheus' terms: every process that exports it says the same."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from core.jobs.lifecycle import TERMINAL, FailureReason, JobStatus, RequeueReason
from core.monitoring import snapshot as snapshots
from core.monitoring.counters import PREFIX
from core.monitoring.tallies import BEYOND, BUCKETS, Key, Tallied, Total
from core.webhooks.lifecycle import Outcome

if TYPE_CHECKING:
    from core.database import Database
    from core.monitoring.snapshot import Snapshot, WorkerState

KEPT_SECONDS = 5.0
# There from the start with zeros: an increase from nothing to one is none to Prometheus.
_JOB_ENDS = [
    (JobStatus.SUCCEEDED.value, ""),
    (JobStatus.CANCELLED.value, ""),
    *((JobStatus.FAILED.value, reason.value) for reason in FailureReason),
]
_ATTEMPT_ENDS = [
    *((status.value, "") for status in sorted(TERMINAL)),
    (JobStatus.PAUSED.value, ""),
    *((reason.value, "") for reason in RequeueReason),
]
_log = structlog.get_logger(__name__)


class DatabaseCollector(Collector):
    """Reads at most once in KEPT_SECONDS, however many scrape.

    Without the database only `foretrain_database_up` is left: a number of before would pass for one of now.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._taken_at = float("-inf")
        self._snapshot: Snapshot | None = None

    def collect(self) -> Iterator[Metric]:
        snapshot = self._current()
        yield GaugeMetricFamily(
            f"{PREFIX}_database_up", "Whether the database answered the last look.", snapshot is not None
        )
        if snapshot is not None:
            yield from _families(snapshot)

    def describe(self) -> Iterable[Metric]:
        """Names nothing ahead: registering must not need a database."""
        return []

    def _current(self) -> Snapshot | None:
        asked_at = time.monotonic()
        with self._lock:
            # By the time of asking: all who waited here while one look took long share the next.
            if self._taken_at < asked_at - KEPT_SECONDS:
                # Before the look, not after it: what a look sees is as old as its begin.
                self._taken_at = time.monotonic()
                self._snapshot = self._look()
            return self._snapshot

    def _look(self) -> Snapshot | None:
        try:
            with self._db.readers.begin() as session:
                return snapshots.take(session)
        except SQLAlchemyError as error:
            _log.warning("database_not_scraped", reason=str(getattr(error, "orig", error)))
            return None


def _families(snapshot: Snapshot) -> Iterator[Metric]:
    yield _jobs(snapshot)
    yield _gauge(
        "oldest_queued_job_age_seconds",
        "How long the job that was queued first has been waiting; 0 where none waits.",
        ["queue"],
        [([queue], waiting.oldest_seconds) for queue, waiting in snapshot.waiting.items()],
    )
    yield _gauge(
        "datasets_inspecting", "Datasets whose inspection is not over.", [], [([], snapshot.inspecting)]
    )
    yield _histogram(
        "job_duration_seconds",
        "From submission to the end, waiting included, of jobs that ended.",
        ["status", "reason"],
        _by_labels(snapshot.totals, Tallied.JOB, always=_JOB_ENDS),
    )
    yield _histogram(
        "attempt_duration_seconds",
        "From the claim to the end, of attempts that ended.",
        ["outcome"],
        _by_labels(snapshot.totals, Tallied.ATTEMPT, always=_ATTEMPT_ENDS),
    )
    yield _count(snapshot, Tallied.LEASE_EXPIRED, "leases_expired", "Leases that ran out on a lost worker.")
    yield _count(
        snapshot, Tallied.FENCED, "attempts_fenced", "Attempts thrown away: the job was not theirs any more."
    )
    yield _count(
        snapshot,
        Tallied.SCHEDULER_ROUND,
        "scheduler_rounds",
        "Rounds of the schedulers, one a minute each.",
    )
    yield _webhook_attempts(snapshot)
    yield _gauge(
        "webhook_deliveries_pending",
        "Deliveries that wait for their first or next attempt.",
        [],
        [([], snapshot.undelivered)],
    )
    yield from _worker_families(snapshot.workers)


def _jobs(snapshot: Snapshot) -> Metric:
    counts = {
        JobStatus.QUEUED: {queue: waiting.count for queue, waiting in snapshot.waiting.items()},
        JobStatus.RUNNING: snapshot.running,
        JobStatus.PAUSED: snapshot.paused,
    }
    samples = [
        ([status.value, queue], count)
        for status, by_queue in counts.items()
        for queue, count in by_queue.items()
    ]
    return _gauge("jobs", "Jobs that have not ended, by status and queue.", ["status", "queue"], samples)


def _worker_families(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    labels = ["worker", "queue"]
    yield _gauge(
        "worker_up",
        "Whether a worker heard of within the last hour was heard of within the last minute.",
        labels,
        [([worker.name, worker.queue], worker.is_live) for worker in workers],
    )
    yield _gauge(
        "worker_heartbeat_age_seconds",
        "Since the worker was last heard of.",
        labels,
        [([worker.name, worker.queue], worker.heartbeat_age_seconds) for worker in workers],
    )
    yield _gauge(
        "worker_devices",
        "Devices a live worker trains on.",
        labels,
        [([worker.name, worker.queue], worker.devices) for worker in workers if worker.is_live],
    )
    yield _gauge(
        "worker_training_windows_per_second",
        "Windows that the training a live worker runs goes through in a second; 0 where it runs none.",
        labels,
        [([worker.name, worker.queue], worker.windows_per_second) for worker in workers if worker.is_live],
    )
    yield from _gpu_families(workers)


def _gpu_families(workers: Sequence[WorkerState]) -> Iterator[Metric]:
    labels = ["worker", "gpu"]
    gpus = [([worker.name, gpu.index], gpu) for worker in workers if worker.is_live for gpu in worker.gpus]
    yield _gauge(
        "gpu_utilization_ratio",
        "Share of the time in which the GPU computed, from 0 to 1.",
        labels,
        [(names, gpu.utilization) for names, gpu in gpus],
    )
    yield _gauge(
        "gpu_memory_used_bytes",
        "GPU memory in use, by whatever process.",
        labels,
        [(names, gpu.memory_used_bytes) for names, gpu in gpus],
    )
    yield _gauge(
        "gpu_memory_bytes", "GPU memory.", labels, [(names, gpu.memory_bytes) for names, gpu in gpus]
    )


def _gauge(
    name: str, help_text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", help_text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _count(snapshot: Snapshot, kind: Tallied, name: str, help_text: str) -> Metric:
    total = sum(total.count for key, total in snapshot.totals.items() if key.kind == kind)
    return CounterMetricFamily(f"{PREFIX}_{name}", help_text, value=total)


def _webhook_attempts(snapshot: Snapshot) -> Metric:
    family = CounterMetricFamily(
        f"{PREFIX}_webhook_deliveries", "Attempts to deliver an event to a webhook.", labels=["outcome"]
    )
    counts = dict.fromkeys(Outcome, 0)
    for key, total in snapshot.totals.items():
        if key.kind == Tallied.WEBHOOK:
            counts[Outcome(key.outcome)] += total.count
    for outcome, count in counts.items():
        family.add_metric([outcome.value], count)
    return family


def _histogram(
    name: str,
    help_text: str,
    labels: Sequence[str],
    series: Mapping[tuple[str, ...], Mapping[int, Total]],
) -> Metric:
    family = HistogramMetricFamily(f"{PREFIX}_{name}", help_text, labels=labels)
    for values, by_bucket in sorted(series.items()):
        counted, buckets = 0, []
        for bound in (*BUCKETS, BEYOND):
            counted += by_bucket[bound].count if bound in by_bucket else 0
            buckets.append(("+Inf" if bound == BEYOND else str(float(bound)), counted))
        seconds = sum(total.seconds for total in by_bucket.values())
        family.add_metric(values[: len(labels)], buckets, seconds)
    return family


def _by_labels(
    totals: Mapping[Key, Total], kind: Tallied, always: Iterable[tuple[str, str]]
) -> dict[tuple[str, ...], dict[int, Total]]:
    """Totals by (outcome, reason), then bucket; `always` are there in any case."""
    series: defaultdict[tuple[str, ...], dict[int, Total]] = defaultdict(dict, {key: {} for key in always})
    for key, total in totals.items():
        if key.kind == kind:
            series[key.outcome, key.reason][key.bucket] = total
    return series
