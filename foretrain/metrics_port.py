"""A port of its own for /metrics: off unless FORETRAIN_METRICS_PORT is set."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from core.monitoring.exposition import exported
from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from core.database import Database
    from core.settings import Settings


@contextmanager
def metrics_port(settings: Settings, db: Database | None = None) -> Iterator[None]:
    """Serves what this process counts, and with `db` what the database knows. Raises Refusal."""
    if settings.metrics_port is None:
        yield
        return
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server, thread = start_http_server(port, host, exported(db))
    except OSError as error:
        reason = error.strerror or str(error)
        raise Refusal(f"Cannot serve metrics on {host}, port {port}: {reason}.") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
