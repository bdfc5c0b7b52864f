"""The API behind uvicorn: a process of its own, or a thread of the supervisor."""

from __future__ import annotations

import errno
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import uvicorn

from api.main import create_app
from core.database import connect
from foretrain.http_connections import BoundedConnection, allow_many_connections
from foretrain.metrics_port import metrics_port
from foretrain.refusals import Refusal
from foretrain.setup import set_up
from foretrain.stopping import Signals
from foretrain.tracing import trace_if_asked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.settings import Settings

_POLL_SECONDS = 0.02
_GRACE_SECONDS = 5


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket; port 0 takes any free one. Raises Refusal."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (
            "it is taken; stop the program that uses it, or choose another with --port"
            if error.errno == errno.EADDRINUSE
            else error.strerror or str(error)
        )
        raise Refusal(f"Cannot listen on {host}, port {port}: {reason}.") from error
    with listener:
        # Connections inherit it. asyncio sets it only on sockets made with the protocol's number, and without
        # it a body behind its headers waits 40 ms for the caller's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def run_api(host: str | None, port: int | None) -> int:
    """The API as a process of its own, until SIGINT or SIGTERM."""
    # uvicorn raises a signal again once it has come to its end; unheard, a clean stop would read as a kill.
    Signals()
    settings = set_up()
    trace_if_asked("api")
    server = uvicorn.Server(_config(settings))
    db = connect(settings.database_url)
    with (
        listen(host or settings.host, settings.port if port is None else port) as listener,
        metrics_port(settings, db),
    ):
        server.run(sockets=[listener])
    db.dispose()
    return 0 if server.started else 1


def _config(settings: Settings) -> uvicorn.Config:
    allow_many_connections()
    return uvicorn.Config(
        create_app(settings),
        http=BoundedConnection,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        # Whom to believe about addresses is for `trusted_proxies` to say.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


class HttpServer:
    """The API in a thread, from entering the context until it is left."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._listener = listener
        self._server = uvicorn.Server(_config(settings))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="http", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ask_to_end()
        self._thread.join()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def await_start(self) -> bool:
        """True once requests are answered, False when the application failed to start."""
        while not self._server.started and self._thread.is_alive():
            time.sleep(_POLL_SECONDS)
        return self._server.started

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def ask_to_end(self) -> None:
        self._server.should_exit = True
