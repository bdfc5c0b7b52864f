from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from core.database import Database, db_now
from core.settings import Settings
from core.tables import Webhook, WebhookDelivery
from core.webhooks import service
from core.webhooks.couriers import Couriers
from core.webhooks.schemas import DeliveryRead, WebhookCreate, WebhookRead, WebhookWithSecret
from tests.conftest import make_settings
from tests.core.webhooks.receiver import Receiver, receiving
from tests.factories import make_tenant


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return local_settings(tmp_path)


def local_settings(data_dir: Path, **chosen: Any) -> Settings:
    """Webhooks may go to this machine."""
    whole: dict[str, Any] = {"webhook_networks": [ip_network("127.0.0.0/8")]}
    return make_settings(data_dir, **(whole | chosen))


@dataclass
class Office:
    """Webhooks on one database, and the couriers of one scheduler."""

    db: Database
    settings: Settings
    is_stopping: bool = False
    couriers: Couriers = field(init=False)

    def __post_init__(self) -> None:
        self.couriers = Couriers(self.db, self.settings, lambda: self.is_stopping, _call)

    def open_webhook(self, url: str, tenant: str = "acme", **chosen: Any) -> WebhookWithSecret:
        with self.db.sessions.begin() as session:
            owner = make_tenant(session, tenant)
            asked = WebhookCreate.model_validate({"url": url} | chosen)
            return service.create(session, owner.id, asked, self.settings)

    def send_test(self, webhook: WebhookRead, tenant: str = "acme") -> str:
        """The id of the delivery."""
        with self.db.sessions.begin() as session:
            return service.send_test(session, make_tenant(session, tenant).id, webhook.id).id

    def deliver(self) -> None:
        """Sends what is due, and waits for the attempts."""
        self.couriers.dispatch()
        self.couriers.join()

    def make_due(self) -> None:
        """As if every wait were over."""
        with self.db.sessions.begin() as session:
            session.execute(update(Webhook).values(resting_until=None))
            waiting = update(WebhookDelivery).where(WebhookDelivery.next_attempt_at.is_not(None))
            session.execute(waiting.values(next_attempt_at=db_now()))

    def webhook(self, webhook: WebhookRead, tenant: str = "acme") -> WebhookRead:
        with self.db.sessions.begin() as session:
            return service.get(session, make_tenant(session, tenant).id, webhook.id)

    def deliveries(self) -> list[DeliveryRead]:
        """All there are, oldest first."""
        with self.db.sessions.begin() as session:
            rows = session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id))
            return [DeliveryRead.model_validate(row) for row in rows]


def _call(part: Callable[..., None], *what: str) -> None:
    part(*what)


@pytest.fixture
def office(sqlite: Database, settings: Settings) -> Iterator[Office]:
    """Where the kind of database makes no difference."""
    made = Office(sqlite, settings)
    yield made
    made.couriers.join()


@pytest.fixture
def any_office(database: Database, settings: Settings) -> Iterator[Office]:
    """Once on SQLite, once on Postgres."""
    made = Office(database, settings)
    yield made
    made.couriers.join()
