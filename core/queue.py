"""The Celery app and the one message it carries: work may be waiting on this queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog
from celery import Celery

from core.monitoring.counters import nudges

if TYPE_CHECKING:
    from core.settings import Settings

TASK_NAME = "foretrain.work"
QUEUES = ("cpu", "gpu")
BROKER_SECONDS = 1.0
_REDIS_SCHEMES = ("redis", "rediss", "redis+socket")
_one_at_a_time = threading.Lock()
# Taken out while it is used. To connect takes eight times as long as to nudge.
_kept: WeakKeyDictionary[Celery, Any] = WeakKeyDictionary()
_log = structlog.get_logger(__name__)


def celery_queue(queue: str) -> str:
    """The broker's name of one of our queues, for `celery worker -Q`."""
    return f"foretrain.{queue}"


def make_celery(settings: Settings) -> Celery:
    """The app, configured; tasks are registered by the worker alone.

    The job's row is the truth and its lease the guarantee, so Celery's own are off: messages are acknowledged
    early, never retried, and leave no result.
    """
    celery = Celery("foretrain", broker=settings.broker_url)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        task_publish_retry=False,
        task_default_queue=celery_queue(QUEUES[0]),
        worker_prefetch_multiplier=1,
        # Without it a nudge waits behind a busy worker while another is idle. Redis alone knows it.
        worker_disable_prefetch=_is_redis(settings.broker_url),
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        # solo neither acknowledges early nor answers while busy; prefork cannot fork after CUDA.
        worker_pool="threads",
        worker_concurrency=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings.broker_url, timeout_seconds=10.0),
    )
    return celery


def _is_redis(broker_url: str) -> bool:
    return broker_url.partition("://")[0] in _REDIS_SCHEMES


def _transport_options(broker_url: str, timeout_seconds: float) -> dict[str, Any]:
    if not _is_redis(broker_url):
        return {}
    return {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": min(timeout_seconds, 3.0),
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def nudge(celery: Celery, queue: str, messages: int = 1) -> bool:
    """Tells idle workers of a queue that rows may be waiting; at most `messages` lie in the broker after it.

    False, and a log line, when the broker does not take it within a second: the scheduler nudges again.
    Never raises.
    """
    problem = _try_for_a_second(lambda: _send(celery, queue, messages))
    if problem is not None:
        _log.warning("nudge_failed", queue=queue, problem=str(problem))
    nudges.labels(queue, "sent" if problem is None else "failed").inc()
    return problem is None


def ping(celery: Celery) -> bool:
    """Whether the broker answers within a second."""
    return _try_for_a_second(lambda: _on_a_connection(celery, partial(_waiting, QUEUES[0]))) is None


def _try_for_a_second(act: Callable[[], object]) -> Exception | None:
    outcome: SimpleQueue[Exception | None] = SimpleQueue()
    # A thread, for a name that does not resolve blocks longer than any socket option allows.
    threading.Thread(target=_report, args=(act, outcome), daemon=True).start()
    try:
        return outcome.get(timeout=BROKER_SECONDS)
    except Empty:
        return TimeoutError(f"no answer within {BROKER_SECONDS} s")


def _report(act: Callable[[], object], outcome: SimpleQueue[Exception | None]) -> None:
    try:
        act()
    except Exception as problem:  # noqa: BLE001  # whatever a broker can do wrong, the caller must live
        outcome.put(problem)
    else:
        outcome.put(None)


def _send(celery: Celery, queue: str, messages: int) -> None:
    # A nudge that was given up on may still be under way: both would count before either has sent.
    if not _one_at_a_time.acquire(timeout=BROKER_SECONDS):
        raise TimeoutError("an earlier nudge has not ended yet")
    try:
        _on_a_connection(celery, partial(_fill_up, celery, queue, messages))
    finally:
        _one_at_a_time.release()


def _fill_up(celery: Celery, queue: str, messages: int, connection: Any) -> None:
    for _ in range(messages - _waiting(queue, connection)):
        celery.send_task(
            TASK_NAME, args=[queue], queue=celery_queue(queue), connection=connection, retry=False
        )


def _waiting(queue: str, connection: Any) -> int:
    return int(connection.default_channel.queue_declare(celery_queue(queue)).message_count)


def _on_a_connection(celery: Celery, act: Callable[[Any], object]) -> None:
    """On the one that the last act has left behind, if it still works, else on a new one."""
    kept = _kept.pop(celery, None)
    if kept is None or not _try_on(kept, act):
        kept = _connect(celery)
        try:
            act(kept)
        except BaseException:
            _let_go(kept)
            raise
    if _kept.setdefault(celery, kept) is not kept:
        _let_go(kept)  # another thread has left one meanwhile


def _try_on(kept: Any, act: Callable[[Any], object]) -> bool:
    """False where the connection was lost since it was used last; raises when the broker says nothing."""
    asked_at = time.monotonic()
    try:
        act(kept)
    except Exception:
        _let_go(kept)
        # A loss is noticed at once. After a silence, a new connection would take the same time once more.
        if time.monotonic() - asked_at > BROKER_SECONDS / 4:
            raise
        return False
    return True


def _let_go(connection: Any) -> None:
    with suppress(Exception):  # what it was is over; that it does not close in good order changes nothing
        connection.release()


def _connect(celery: Celery) -> Any:
    options = _transport_options(celery.conf.broker_url, BROKER_SECONDS / 2) | {"max_retries": 0}
    return celery.connection_for_write(connect_timeout=BROKER_SECONDS, transport_options=options)
