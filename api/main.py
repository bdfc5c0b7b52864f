"""The application: `create_app(settings)` is what a server runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.middleware import Middleware

from api.cors import Cors
from api.openapi import DESCRIPTION, DocumentedApp
from api.problems import answer_with_problems
from api.request_context import RequestContext, UnexpectedErrors
from api.resources import Queue, open_resources
from api.routes import (
    artifacts,
    datasets,
    fleet,
    health,
    history,
    jobs,
    monitoring,
    reference,
    streams,
    verbs,
)
from core.settings import Settings

ROUTERS = (
    datasets.router,
    jobs.router,
    jobs.polled,
    verbs.router,
    history.router,
    streams.router,
    artifacts.router,
    fleet.router,
    reference.router,
    health.router,
    monitoring.router,
)


def create_app(settings: Settings, queue: Queue | None = None) -> FastAPI:
    """The HTTP interface over `settings`' database, storage and broker (or `queue` in the broker's place).

    Opens its resources when the server starts and closes them when it stops; migrates nothing.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.resources = open_resources(settings, queue)
        try:
            yield
        finally:
            await app.state.resources.watcher.close()
            await app.state.resources.inspections.close()
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
            Middleware(RequestContext),
            Middleware(Cors, origins=settings.cors_origins),
            Middleware(UnexpectedErrors),
        ],
    )
    answer_with_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
