"""What this process alone knows: it starts from zero with the process, and each process exports its own.

Whatever must be right across processes and restarts is tallied in the database instead (`tallies`).
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

PREFIX = "foretrain"
PROCESS = CollectorRegistry()
ProcessCollector(namespace=PREFIX, registry=PROCESS)

_HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

http_requests = Counter(
    f"{PREFIX}_http_requests_total",
    "Requests answered by this process, by route template and status.",
    ["method", "route", "status"],
    registry=PROCESS,
)
http_request_seconds = Histogram(
    f"{PREFIX}_http_request_duration_seconds",
    "Time from the first byte of a request to the last of its answer, waits and transfers included.",
    ["method", "route"],
    buckets=_HTTP_BUCKETS,
    registry=PROCESS,
)
http_requests_in_progress = Gauge(
    f"{PREFIX}_http_requests_in_progress", "Requests this process is answering now.", registry=PROCESS
)
nudges = Counter(
    f"{PREFIX}_nudges_total",
    "Times this process told the workers of a queue that jobs may be waiting; a scheduler's are resends.",
    ["queue", "outcome"],
    registry=PROCESS,
)
storage_operations = Counter(
    f"{PREFIX}_storage_operations_total",
    "Calls of this process to the object storage: ok, missing, exists, abandoned or unavailable.",
    ["operation", "outcome"],
    registry=PROCESS,
)
lease_renewals = Counter(
    f"{PREFIX}_lease_renewals_total",
    "This worker's renewals of its job's lease: ok, fenced (the job was somebody else's) or failed.",
    ["outcome"],
    registry=PROCESS,
)
rate_shares = Counter(
    f"{PREFIX}_rate_limit_shares_total",
    "Times this process exchanged its counts of requests with the others; while that fails, it counts alone.",
    ["outcome"],
    registry=PROCESS,
)
sweep_failures = Counter(
    f"{PREFIX}_scheduler_part_failures_total",
    "Parts of this scheduler's sweeps that ended in an error.",
    ["part"],
    registry=PROCESS,
)
