"""Which request a job came from, and which trace: kept with its row for the worker to go on from."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()


@dataclass(frozen=True)
class Origin:
    """`traceparent` is a W3C trace context; None where nobody traces. So is a job's that no request made."""

    request_id: str | None = None
    traceparent: str | None = None

    def log_fields(self) -> dict[str, str]:
        """To bind to the log."""
        return {} if self.request_id is None else {"request_id": self.request_id}

    def trace_context(self) -> Context:
        """The parent of what follows."""
        return _W3C.extract({} if self.traceparent is None else {"traceparent": self.traceparent})


def current_origin() -> Origin:
    """Of the request that this thread is answering."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return Origin(structlog.contextvars.get_contextvars().get("request_id"), carrier.get("traceparent"))
