"""OpenTelemetry traces: off unless OpenTelemetry's own variables name where they go."""

from __future__ import annotations

import os

from opentelemetry import trace

from foretrain.refusals import Refusal

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def trace_if_asked(role: str) -> None:
    """Sends this process' spans over OTLP/HTTP as `foretrain-<role>`, or as OTEL_SERVICE_NAME.

    Raises Refusal where the variables are set and the packages are not there.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Refusal("Traces need packages of their own: pip install 'foretrain[otel]'.") from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"foretrain-{role}"}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
