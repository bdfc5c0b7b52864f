"""A service that answers what the test says, in this order: for what a real one does too rarely."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Says:
    """One answer. `cut` closes the connection in its middle: the rest of the body never comes."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


HANGS_UP = Says(status=0)


def problem(status: int, code: str, **headers: str) -> Says:
    """A refusal as the service words it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"code": code, "detail": code, "retryable": status in {429, 503}}).encode()
    return Says(status, body, {"Content-Type": "application/problem+json"} | named)


@dataclass
class Scripted:
    """What was asked, request by request."""

    url: str
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def headers(self, name: str) -> list[str | None]:
        """Of each request."""
        return [headers.get(name.lower()) for _, _, headers, _ in self.asked]

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.asked]


@contextmanager
def scripted(*script: Says) -> Iterator[Scripted]:
    """Answers with each entry of the script once, then with 404."""
    answers = iter(script)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append((self.command, self.path, headers, body))
            says = next(answers, problem(404, "script_is_over"))
            self.close_connection = says.cut or says is HANGS_UP
            if says is HANGS_UP:
                return
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            if says.status != 304:
                self.send_header("Content-Length", str(len(says.body) + (1 if says.cut else 0)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(says.body)

        do_GET = do_POST = do_PATCH = do_HEAD = do_DELETE = answer  # noqa: N815  # the library's names

        def log_message(self, *_: Any) -> None:
            """Nothing: the test looks at `asked`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service = Scripted(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
