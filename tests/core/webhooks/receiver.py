"""A customer's endpoint, over real HTTP: it verifies what it gets with the library it was told to take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook as Verifier


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Any:
        """The event. Raises WebhookVerificationError."""
        return Verifier(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Answers as it is told to: `status`, `headers` and `body`, once `is_open` is set."""

    url: str
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    is_open: threading.Event = field(default_factory=threading.Event)

    @property
    def message_ids(self) -> list[str]:
        return [request.message_id for request in self.requests]


@contextmanager
def receiving(host: str = "127.0.0.1") -> Iterator[Receiver]:
    """The endpoint, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def setup(self) -> None:
            receiver.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            named = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Received(self.path, named, body))
            receiver.arrived.release()
            receiver.is_open.wait(5)
            self.send_response(receiver.status)
            length = {} if receiver.status == 204 else {"Content-Length": str(len(receiver.body))}
            for name, value in (length | receiver.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(receiver.body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A caller that does not read to the end is no error here."""

    server = Server((host, 0), Handler)
    receiver = Receiver(f"http://{host}:{server.server_port}/hook?team=edge")
    receiver.is_open.set()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.is_open.set()
        server.shutdown()
        server.socket.close()
        thread.join()
