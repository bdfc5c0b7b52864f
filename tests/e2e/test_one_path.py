"""A job's request, in the log and in the traces, from the POST to the trainer's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.one_job import SECRET, TRACE_ID

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class OnePath:
    """What was seen of it from outside."""

    ids: dict[str, str]
    stderr: str
    spans: list[Any]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Of the log."""
        entries = [json.loads(line) for line in self.stderr.splitlines()]
        return [entry for entry in entries if entry["event"] == event]


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP endpoint; its address and the spans it was sent."""
    spans: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = ExportTraceServiceRequest.FromString(body)
            spans.extend(
                span for each in sent.resource_spans for scope in each.scope_spans for span in scope.spans
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> OnePath:
    with collector() as (address, spans):
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.one_job", str(tmp_path_factory.mktemp("one-path"))],
            env=os.environ
            | {"FORETRAIN_LOG_FORMAT": "json", "OTEL_EXPORTER_OTLP_ENDPOINT": address}
            | {"OTEL_EXPORTER_OTLP_COMPRESSION": "none"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return OnePath(json.loads(done.stdout), done.stderr, spans)


def test_every_line_is_one_event_as_json(seen: OnePath) -> None:
    for line in seen.stderr.splitlines():
        assert {"event", "level", "timestamp"} <= json.loads(line).keys()


def test_the_worker_logs_the_request_the_job_and_the_attempt(seen: OnePath) -> None:
    [posted] = [line for line in seen.lines("request") if line["status"] == 201]
    assert posted["request_id"] == seen.ids["request_id"]

    for event in ("job_started", "trainer_line_dropped", "job_ended"):
        [line] = seen.lines(event)
        assert line["request_id"] == seen.ids["request_id"]
        assert (line["job_id"], line["attempt"]) == (seen.ids["job_id"], 1)


def test_the_log_of_the_job_starts_with_its_request(seen: OnePath) -> None:
    heading, said = seen.ids["log"].splitlines()
    assert said == "epoch 1 of 1"
    for name in (seen.ids["job_id"], "attempt 1", "worker-of-the-test", seen.ids["request_id"]):
        assert name in heading


def test_no_key_and_nothing_of_a_body_is_logged(seen: OnePath) -> None:
    assert [line["status"] for line in seen.lines("request")].count(500) == 1
    [error] = seen.lines("unexpected error")
    assert "INSERT INTO jobs" in error["exception"]
    assert SECRET not in seen.stderr
    assert seen.ids["key"] not in seen.stderr


def test_one_trace_leads_from_the_caller_to_the_trainers_phases(seen: OnePath) -> None:
    ours = {span.name: span for span in seen.spans if span.trace_id.hex() == TRACE_ID}
    assert set(ours) == {"POST /v1/jobs", "attempt", "training"}
    assert ours["POST /v1/jobs"].parent_span_id.hex() == "b7ad6b7169203331"
    assert ours["attempt"].parent_span_id == ours["POST /v1/jobs"].span_id
    assert ours["training"].parent_span_id == ours["attempt"].span_id
    assert seen.ids["key"] not in str(seen.spans)

    [started] = seen.lines("job_started")
    assert started["trace_id"] == TRACE_ID
