"""Spans of an attempt and of the phases its trainer reports; nothing is recorded unless tracing is set up."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span

    from core.jobs.claim import ClaimedJob

# Training and validating take turns every epoch: a trace of a thousand epochs would be of no use.
MOST_PHASES = 50
_tracer = trace.get_tracer("foretrain.worker")


@contextmanager
def attempt_span(job: ClaimedJob) -> Iterator[None]:
    """Goes on from the trace of the request that submitted the job."""
    facts: dict[str, str | int] = {
        "foretrain.job_id": job.job_id,
        "foretrain.attempt": job.attempt,
        "foretrain.dataset_id": job.dataset.dataset_id,
    }
    with _tracer.start_as_current_span(
        "attempt",
        context=job.origin.trace_context(),
        kind=trace.SpanKind.CONSUMER,
        attributes=facts,
        record_exception=False,
    ):
        yield


class PhaseSpans:
    """One span after the other, on behalf of the trainer, which knows nothing of traces."""

    def __init__(self) -> None:
        self._span: Span | None = None
        self._left = MOST_PHASES

    def begin(self, phase: str) -> None:
        self.end()
        if self._left:
            self._left -= 1
            self._span = _tracer.start_span(phase)

    def end(self) -> None:
        if self._span is not None:
            self._span.end()
            self._span = None
