"""How often each caller has asked in this minute, counted here and shared with the other processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.monitoring.counters import rate_shares

WINDOW_SECONDS = 60
SHARE_SECONDS = 1.0
_TIMEOUT_SECONDS = 1.0
# A window's counts outlive it for processes whose clocks are a little behind.
_KEPT_SECONDS = 2 * WINDOW_SECONDS
_log = structlog.get_logger(__name__)


class Rates:
    """Counts by name in windows of a minute, by the clock; used from the event loop's thread alone.

    Nothing waits for a network: what was counted here is added to the shared counts by `share`, once a
    second, and theirs is known here from then on. So processes that share are at most a second's requests
    behind each other; without a shared place, or while it does not answer, each counts by itself.
    """

    def __init__(self, shared: SharedCounts | None = None, clock: Callable[[], float] = time.time) -> None:
        self._shared = shared
        self._clock = clock
        self._window = 0
        self._own: Counter[str] = Counter()
        self._unshared: Counter[str] = Counter()
        self._others: dict[str, int] = {}
        self._is_sharing = True

    @property
    def seconds_left(self) -> int:
        """Until the counts begin anew, at least 1."""
        return WINDOW_SECONDS - int(self._clock()) % WINDOW_SECONDS

    def add(self, who: str) -> int:
        """Counts one more; how many there are now."""
        self._turn_over()
        self._own[who] += 1
        self._unshared[who] += 1
        return self.count(who)

    def count(self, who: str) -> int:
        """How many there are, here and as far as is known elsewhere."""
        self._turn_over()
        return self._own[who] + self._others.get(who, 0)

    def _turn_over(self) -> None:
        window = int(self._clock()) // WINDOW_SECONDS
        if window != self._window:
            self._window = window
            self._own, self._unshared, self._others = Counter(), Counter(), {}

    async def share(self) -> None:
        """Never raises."""
        self._turn_over()
        if self._shared is None or not self._unshared:
            return
        window, unshared = self._window, self._unshared
        own = {who: self._own[who] for who in unshared}
        self._unshared = Counter()
        try:
            totals = await self._shared.add(window, unshared)
        except (RedisError, OSError, ValueError) as error:
            self._note_outcome(error)
            totals = {}
            if window == self._window:
                self._unshared += unshared
        else:
            self._note_outcome(None)
        if window == self._window:
            self._others |= {who: total - own[who] for who, total in totals.items()}

    def _note_outcome(self, error: Exception | None) -> None:
        rate_shares.labels("shared" if error is None else "failed").inc()
        if error is not None and self._is_sharing:
            # Without its words: they may hold the broker's address with its password.
            _log.warning("rate_limits_not_shared", error=type(error).__name__)
        self._is_sharing = error is None

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()


class SharedCounts:
    """Counts in a Redis or Valkey that all processes reach."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    async def add(self, window: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Adds to each name's count; the totals. One round trip. Raises RedisError, OSError."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for who, count in counts.items():
                name = f"foretrain:rate:{window}:{who}"
                pipeline.incrby(name, count)
                pipeline.expire(name, _KEPT_SECONDS)
            answers = await pipeline.execute()
        return dict(zip(counts, answers[::2], strict=True))

    async def close(self) -> None:
        await self._redis.aclose()


def shared_counts(broker_url: str) -> SharedCounts | None:
    """In the broker's Redis, if it has an address that other machines reach, else None."""
    if broker_url.partition("://")[0] not in {"redis", "rediss"}:
        return None
    return SharedCounts(broker_url)
