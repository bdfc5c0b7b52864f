"""The application: `create_app(settings)` is what a server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware import Middleware

from api.background import background
from api.callers import Callers
from api.cors import Cors
from api.openapi import DESCRIPTION, DocumentedApp
from api.pages import routes as pages
from api.problems import answer_with_problems
from api.request_context import RequestContext, UnexpectedErrors
from api.resources import Queue, open_resources
from api.routes import (
    access,
    artifacts,
    datasets,
    fleet,
    health,
    history,
    jobs,
    monitoring,
    reference,
    series_values,
    session,
    streams,
    verbs,
    webhooks,
)
from core.settings import Settings

ROUTERS = (
    datasets.router,
    series_values.router,
    jobs.router,
    jobs.polled,
    verbs.router,
    history.router,
    streams.router,
    artifacts.router,
    webhooks.router,
    access.router,
    fleet.router,
    reference.router,
    health.router,
    monitoring.router,
    session.router,
    pages.router,
)


def create_app(settings: Settings, queue: Queue | None = None) -> FastAPI:
    """The HTTP interface over `settings`' database, storage and broker (or `queue` in the broker's place).

    Opens its resources when the server starts and closes them when it stops; migrates nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.resources = open_resources(settings, queue)
        try:
            async with background(app.state.resources):
                yield
        finally:
            await app.state.resources.watcher.close()
            await app.state.resources.inspections.close()
            await run_in_threadpool(app.state.resources.queue.close)
            app.state.resources.db.dispose()

    app = DocumentedApp(
        title="foretrain",
        version=version("foretrain"),
        description=DESCRIPTION,
        lifespan=lifespan,
        # Ours is a strict route; the pages that show it load scripts from another host.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Spans alone, and those only where `foretrain.tracing` has set a provider.
        telemetry={"metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
        middleware=[
            Middleware(RequestContext, trusted_proxies=settings.trusted_proxies),
            Middleware(Cors, origins=settings.cors_origins),
            Middleware(
                Callers,
                per_minute=settings.requests_per_minute,
                failures_per_minute=settings.failures_per_minute,
            ),
            Middleware(UnexpectedErrors),
        ],
    )
    answer_with_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
