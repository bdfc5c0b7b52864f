"""What the API does between requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.resources import Resources
from core.access.key_use import WRITE_SECONDS, KeyUse
from core.access.rates import SHARE_SECONDS

log = structlog.get_logger(__name__)


@asynccontextmanager
async def background(resources: Resources) -> AsyncIterator[None]:
    """Shares the counts of requests and writes when keys were used, until the block ends."""

    async def write_key_use() -> None:
        await run_in_threadpool(_write_key_use, resources.key_use)

    tasks = [
        asyncio.create_task(_repeat(resources.rates.share, SHARE_SECONDS)),
        asyncio.create_task(_repeat(write_key_use, WRITE_SECONDS)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await write_key_use()
        await resources.rates.close()


async def _repeat(act: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        await act()


def _write_key_use(key_use: KeyUse) -> None:
    try:
        key_use.write()
    except SQLAlchemyError as error:
        log.warning("key use not written", reason=str(getattr(error, "orig", error)))
