"""Brings deliveries to their endpoints: one thread for each endpoint that has something to get."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import httpcore2
import structlog

from core.monitoring import tallies
from core.monitoring.tallies import Tallied
from core.webhooks import repository, settling
from core.webhooks.schemas import DeliveryAttempt
from core.webhooks.sending import Answer, open_pool, post
from core.webhooks.signing import signed_headers

if TYPE_CHECKING:
    import ssl

    from core.database import Database
    from core.settings import Settings
    from core.webhooks.repository import ClaimedDelivery

AT_ONCE = 16
# A lease outlives the attempt and a database that is slow to take note of it.
LEASE_MARGIN_SECONDS = 30.0
_log = structlog.get_logger(__name__)


class Couriers:
    """Several schedulers do no harm: each delivery is claimed, and what is not settled is due again."""

    def __init__(
        self,
        db: Database,
        settings: Settings,
        is_stopping: Callable[[], bool],
        attempt: Callable[..., None],
    ) -> None:
        """`attempt` calls what it is given and keeps what goes wrong from others."""
        self._db = db
        self._settings = settings
        self._is_stopping = is_stopping
        self._attempt = attempt
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="courier")
        self._under_way: dict[str, Future[None]] = {}

    def dispatch(self) -> None:
        """Sends a courier to each endpoint with something to get, while there are any; waits for none."""
        self._under_way = {webhook: run for webhook, run in self._under_way.items() if not run.done()}
        free = AT_ONCE - len(self._under_way)
        if free == 0:
            return
        with self._db.readers.begin() as session:
            due = repository.due_webhooks(session, sorted(self._under_way), free)
        for webhook_id in due:
            self._under_way[webhook_id] = self._threads.submit(self._attempt, self._deliver, webhook_id)

    def join(self) -> None:
        """Waits for the attempts under way, each of which has its time limit."""
        wait(self._under_way.values())

    def _deliver(self, webhook_id: str) -> None:
        anyio.run(self._deliver_until_one_fails, webhook_id)

    async def _deliver_until_one_fails(self, webhook_id: str) -> None:
        # The loop is this thread's own: nobody waits while the database is asked within it.
        async with open_pool(self._settings.webhook_networks, self._tls) as pool:
            while not self._is_stopping():
                with self._db.sessions.begin() as session:
                    claimed = repository.claim(session, webhook_id, self._lease_seconds)
                if claimed is None or not await self._try(pool, claimed):
                    return

    async def _try(self, pool: httpcore2.AsyncConnectionPool, claimed: ClaimedDelivery) -> bool:
        started_at, start = datetime.now(UTC), time.monotonic()
        headers = signed_headers(claimed.event_id, claimed.body, claimed.keys)
        answer = await post(pool, claimed.url, headers, claimed.body, self._settings.webhook_timeout_seconds)
        attempt = DeliveryAttempt(
            started_at=started_at,
            duration_seconds=round(time.monotonic() - start, 3),
            outcome=answer.outcome,
            response_status=answer.status,
            response_excerpt=answer.excerpt,
        )
        self._settle(claimed, attempt, answer)
        return answer.is_delivered

    def _settle(self, claimed: ClaimedDelivery, attempt: DeliveryAttempt, answer: Answer) -> None:
        with self._db.sessions.begin() as session:
            disabled = settling.settle(session, claimed, attempt, answer, self._settings.webhook_disable_days)
            tallies.note(session, Tallied.WEBHOOK, attempt.outcome)
        told: dict[str, Any] = {"webhook_id": claimed.webhook_id, "delivery_id": claimed.id}
        if not answer.is_delivered:
            _log.info("webhook_not_delivered", **told, outcome=str(attempt.outcome), status=answer.status)
        if disabled is not None:
            _log.warning("webhook_disabled", webhook_id=claimed.webhook_id, reason=disabled.value)

    @property
    def _lease_seconds(self) -> float:
        return 2 * self._settings.webhook_timeout_seconds + LEASE_MARGIN_SECONDS

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the machine's certificates takes longer than many a delivery.
        return httpcore2.default_ssl_context()
