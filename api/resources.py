"""What every request can reach: settings, database, storage, queue. Built once, at the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from anyio import CapacityLimiter
from prometheus_client import CollectorRegistry

from api.inspections import Inspections
from api.slots import Slots
from api.watcher import Watcher
from core.access.key_use import KeyUse
from core.access.rates import Rates, shared_counts
from core.access.sessions import Tickets
from core.database import Database, connect
from core.jobs.line import Board
from core.monitoring.exposition import exported
from core.nudger import Nudger
from core.queue import make_celery, nudge, ping
from core.settings import Settings
from core.storage import ObjectStorage, open_storage

# A poll is short: more of them at once only take the interpreter from each other. And a database that has
# come to a halt is waited for by these alone.
POLLING_THREADS = 4


@dataclass(frozen=True)
class Queue:
    """The broker as the API needs it: a hint that work may be waiting, and whether it answers.

    `nudge` takes the queue's name and returns at once; `ping` takes a second at most. Neither raises. `close`
    waits a moment for nudges that are under way.
    """

    nudge: Callable[[str], object]
    ping: Callable[[], bool]
    close: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Resources:
    settings: Settings
    db: Database
    storage: ObjectStorage
    queue: Queue
    transfers: Slots
    inspections: Inspections
    board: Board
    rates: Rates
    key_use: KeyUse
    watcher: Watcher
    exported: CollectorRegistry
    tickets: Tickets
    pollers: CapacityLimiter


def open_resources(settings: Settings, queue: Queue | None = None) -> Resources:
    """Connects to nothing yet: the first request that needs a thing opens it."""
    db = connect(settings.database_url, lock_seconds=settings.lease_seconds)
    access_key, secret_key = settings.storage_access_key_id, settings.storage_secret_access_key
    storage = open_storage(
        settings.storage_url,
        public_url=settings.storage_public_url,
        access_key_id=access_key.get_secret_value() if access_key else None,
        secret_access_key=secret_key.get_secret_value() if secret_key else None,
    )
    secret = settings.session_secret
    return Resources(
        settings=settings,
        db=db,
        storage=storage,
        queue=queue or _open_queue(settings),
        transfers=Slots(settings.max_streams),
        inspections=Inspections(db, storage, settings),
        board=Board(db, settings.max_running_jobs),
        rates=Rates(shared_counts(settings.broker_url)),
        key_use=KeyUse(db),
        watcher=Watcher(db, interval_seconds=settings.watch_seconds, most=settings.max_waiting),
        exported=exported(db),
        tickets=Tickets(secret.get_secret_value() if secret else None, settings.session_hours),
        pollers=CapacityLimiter(POLLING_THREADS),
    )


def _open_queue(settings: Settings) -> Queue:
    celery = make_celery(settings)
    nudger = Nudger(partial(nudge, celery))
    return Queue(nudge=nudger.ask, ping=partial(ping, celery), close=nudger.close)
