"""What the limits of requests cost a poll: processor time of a 304 with and without them, paired.

The application is called in this process, over SQLite, without HTTP's own work around it. With
`--valkey` (a URL) the counts are shared each second as between replicas; `python -m benchmarks.limits_cost`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI

from api.main import create_app
from api.resources import Queue
from core import migrations
from core.access.scopes import Scope
from core.access.service import create_key
from core.database import connect
from core.settings import Settings
from tests.factories import make_job

POLLS = 100
UNLIMITED: dict[str, Any] = {"requests_per_minute": None, "failures_per_minute": None}
LIMITED: dict[str, Any] = {"requests_per_minute": 1_000_000}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help=f"Of {POLLS} polls for each side.")
    parser.add_argument("--valkey", help="redis:// address; default: counts of one process.")
    asked = parser.parse_args(arguments)
    # A line for each request, drawn for a screen, would be most of what is measured.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="ft-limits-") as folder:
        asyncio.run(compare(Path(folder), asked.rounds, asked.valkey))


async def compare(folder: Path, rounds: int, valkey: str | None) -> None:
    """Prints microseconds of processor time for a poll, the median over the rounds."""
    settings = Settings(data_dir=folder, broker_url=valkey or "")
    migrations.upgrade(settings.database_url)
    db = connect(settings.database_url)
    with db.sessions.begin() as session:
        job_id = make_job(session).id
        key = create_key(session, "acme", [Scope.ADMIN])[1]
    db.dispose()
    async with AsyncExitStack() as stack:
        apps = {
            name: await started(stack, settings.model_copy(update=limits))
            for name, limits in (("without", UNLIMITED), ("with", LIMITED))
        }
        seconds: dict[str, list[float]] = {name: [] for name in apps}
        tags = {name: (await poll(app, job_id, key, b""))[b"etag"] for name, app in apps.items()}
        for _ in range(rounds):
            for name, app in apps.items():
                begun = time.process_time()
                for _ in range(POLLS):
                    await poll(app, job_id, key, tags[name])
                seconds[name].append((time.process_time() - begun) / POLLS)
    for name, each in seconds.items():
        print(f"{name} limits: {statistics.median(each) * 1e6:.0f} µs a poll")
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    print(f"difference, paired: {statistics.median(ours - bare for ours, bare in pairs) * 1e6:.1f} µs")


async def started(stack: AsyncExitStack, settings: Settings) -> FastAPI:
    app = create_app(settings, Queue(nudge=lambda _: None, ping=lambda: True))
    await stack.enter_async_context(app.router.lifespan_context(app))
    return app


async def poll(app: FastAPI, job_id: str, key: str, tag: bytes) -> dict[bytes, bytes]:
    """One request; the answer's headers."""
    headers: dict[bytes, bytes] = {}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        headers.update(message.get("headers", ()))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": f"/v1/jobs/{job_id}",
        "raw_path": f"/v1/jobs/{job_id}".encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {key}".encode()), (b"if-none-match", tag)],
        "client": ("192.0.2.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return headers


if __name__ == "__main__":
    main()
