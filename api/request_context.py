"""Around every request: its id, its line in the log, HEAD for every GET, a last net for errors."""

from __future__ import annotations

import time
from collections.abc import Sequence

import structlog
import uuid_utils
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.addresses import IpNetwork, client_address
from api.problems import MAX_PATH, unexpected_error
from core.monitoring.counters import http_request_seconds, http_requests, http_requests_in_progress

log = structlog.get_logger(__name__)
# Asked every few seconds by machines: worth a line only when they fail.
_QUIET_PATHS = {"/livez", "/readyz", "/metrics"}
# Whatever else a stranger calls a method must not become a series of its own.
_METHODS = {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"}
_SERVER_ERROR = 500


class RequestContext:
    """Outermost layer: names the request, answers HEAD as a GET without its body, writes one log line.

    The line holds method, path, status, times and ids; never headers, query or bodies, which may hold
    keys or a customer's data.
    """

    def __init__(self, app: ASGIApp, trusted_proxies: Sequence[IpNetwork] = ()) -> None:
        self.app = app
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        request_id = f"req_{uuid_utils.uuid7().hex}"
        state = scope.setdefault("state", {}) | {
            "request_id": request_id,
            "is_head": is_head,
            "address": client_address(scope, self._trusted_proxies),
        }
        # A copy: the server needs the real method to know that a HEAD's answer has no body.
        inner = {**scope, "state": state, "method": "GET" if is_head else scope["method"]}
        answer = _Answer(send, request_id, is_head=is_head)
        started_at = time.perf_counter()
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            http_requests_in_progress.track_inprogress(),
        ):
            try:
                await self.app(inner, receive, answer.send)
            finally:
                seconds = time.perf_counter() - started_at
                _count_request(scope["method"], inner, answer, seconds)
                _log_request(scope, state, answer, seconds)


class _Answer:
    """Watches an answer on its way out."""

    def __init__(self, send: Send, request_id: str, *, is_head: bool) -> None:
        self.status: int | None = None
        self.size_bytes = 0
        self._send = send
        self._request_id = request_id
        self._is_head = is_head
        self._is_closed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
        elif message["type"] == "http.response.body":
            if self._is_closed:
                return
            if self._is_head:
                message = {"type": "http.response.body", "body": b"", "more_body": False}
                self._is_closed = True
            self.size_bytes += len(message.get("body", b""))
        await self._send(message)


def _count_request(method: str, scope: Scope, answer: _Answer, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "none")
    labels = (method if method in _METHODS else "other", route)
    # No status: the client went away before there was an answer.
    http_requests.labels(*labels, "none" if answer.status is None else answer.status).inc()
    http_request_seconds.labels(*labels).observe(seconds)


def _log_request(scope: Scope, state: dict[str, object], answer: _Answer, seconds: float) -> None:
    if scope["path"] in _QUIET_PATHS and answer.status is not None and answer.status < _SERVER_ERROR:
        return
    log.info(
        "request",
        method=scope["method"],
        path=scope["path"][:MAX_PATH],
        status=answer.status,
        duration_ms=round(seconds * 1000, 1),
        size_bytes=answer.size_bytes,
        tenant_id=state.get("tenant_id"),
        key_id=state.get("key_id"),
    )


class UnexpectedErrors:
    """Innermost layer, below CORS: what nobody handled becomes a logged 500 without a word of its cause."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_started = False

        async def watch(message: Message) -> None:
            nonlocal is_started
            is_started = is_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            log.info("client went away")
        except Exception:
            if is_started:
                # The status is out: only a broken connection can still say that the body is not whole.
                raise
            log.exception("unexpected error")
            await unexpected_error(scope)(scope, receive, send)
