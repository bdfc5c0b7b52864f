"""A server that answers range queries by Prometheus's documented format, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MOST_POINTS = 11_000


@dataclass
class Prometheus:
    """Where it listens, and what it was asked; `answer_with` replaces its answers."""

    url: str
    queries: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)
    answer_with: tuple[int, dict[str, str], bytes] | None = None

    def answer(self, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if self.answer_with is not None:
            return self.answer_with
        start, end, step = (float(asked[name]) for name in ("start", "end", "step"))
        points = int((end - start) / step) + 1
        if points > MOST_POINTS:
            return 400, {}, b'{"status":"error","error":"exceeded maximum resolution of 11,000 points"}'
        name = asked["query"].rsplit('"__name__", "', 1)[1].split('"')[0]
        result = [
            {
                "metric": {"__name__": name, "instance": server},
                "values": [
                    [start + step * place, str((start / step + place + shift) % 97)]
                    for place in range(points)
                ],
            }
            for shift, server in enumerate(("a", "b"))
        ]
        body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})
        return 200, {"Content-Type": "application/json"}, body.encode()


@contextmanager
def serving_prometheus(host: str = "127.0.0.1") -> Iterator[Prometheus]:
    """The server, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(place.query).items()}
            prometheus.paths.append(place.path)
            prometheus.queries.append(asked)
            prometheus.logins.append(self.headers["Authorization"])
            status, headers, body = prometheus.answer(asked)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    prometheus = Prometheus(f"http://{host}:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield prometheus
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
