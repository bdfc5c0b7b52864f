from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import event as engine_events
from sqlalchemy import func, select

from core.database import Database
from core.jobs import reading, verbs
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import EventRead
from core.tables import Job, WebhookDelivery
from core.webhooks import service
from core.webhooks.schemas import WebhookChange
from tests.core.webhooks.conftest import Office
from tests.factories import make_job, make_tenant
from tests.statements import statements

URL = "https://hooks.example.org/"


def bodies(db: Database) -> list[EventRead]:
    with db.readers.begin() as session:
        rows = session.scalars(select(WebhookDelivery.body).order_by(WebhookDelivery.id)).all()
    return [EventRead.model_validate_json(row) for row in rows]


def test_each_event_of_a_tenants_jobs_is_written_as_a_delivery_with_the_body_that_the_list_shows(
    any_office: Office,
) -> None:
    webhook = any_office.open_webhook(URL)
    with any_office.db.sessions.begin() as session:
        job = make_job(session, JobStatus.SUCCEEDED)
        make_job(session, tenant=make_tenant(session, "rival"))

    with any_office.db.readers.begin() as session:
        events = reading.list_events(session, job.tenant_id, job.id).items
    assert bodies(any_office.db) == events
    assert [event.type for event in events] == ["job.queued", "job.running", "job.succeeded"]
    assert {delivery.webhook_id for delivery in any_office.deliveries()} == {webhook.id}


def test_a_webhook_gets_only_the_types_it_asked_for(office: Office) -> None:
    office.open_webhook(URL, event_types=["job.succeeded", "job.failed"])
    everything = office.open_webhook(URL, event_types=["*", "job.failed"])
    with office.db.sessions.begin() as session:
        make_job(session, JobStatus.FAILED)

    by_webhook = {(one.webhook_id == everything.id, one.event_type) for one in office.deliveries()}
    assert by_webhook == {
        (True, "job.queued"),
        (True, "job.running"),
        (True, "job.failed"),
        (False, "job.failed"),
    }
    assert len(office.deliveries()) == 4


def test_an_event_that_is_rolled_back_leaves_no_delivery(office: Office) -> None:
    office.open_webhook(URL)
    with office.db.sessions() as session:
        make_job(session)
        session.rollback()

    assert office.deliveries() == []


def test_a_disabled_webhook_gets_nothing_and_what_waited_is_given_up(office: Office) -> None:
    webhook = office.open_webhook(URL)
    with office.db.sessions.begin() as session:
        job = make_job(session)
        change = WebhookChange(enabled=False)
        changed = service.change(session, job.tenant_id, webhook.id, change, office.settings)
        verbs.cancel(session, job.tenant_id, job.id)

    assert not changed.enabled
    assert changed.disabled_reason is not None
    assert changed.disabled_reason.code == "by_owner"
    assert [(one.event_type, one.status) for one in office.deliveries()] == [("job.queued", "failed")]


def test_without_webhooks_an_event_costs_one_more_select(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        job = make_job(session)
        with statements(sqlite.engine) as sent:
            verbs.cancel(session, job.tenant_id, job.id)

    about_webhooks = [statement for statement, _ in sent if "webhook" in statement]
    assert len(about_webhooks) == 1
    assert about_webhooks[0].startswith("SELECT")


@pytest.mark.slow
def test_a_webhook_that_is_deleted_meanwhile_does_not_spoil_the_event(
    postgres: Database, office: Office
) -> None:
    shared = Office(postgres, office.settings)
    webhook = shared.open_webhook(URL)
    with postgres.sessions.begin() as session:
        job = make_job(session)
    is_asking, is_deleting = threading.Event(), threading.Event()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM webhooks"):
            is_deleting.set()

    def delete() -> None:
        is_asking.wait(10)
        with postgres.sessions.begin() as session:
            service.delete(session, job.tenant_id, webhook.id)

    engine_events.listen(postgres.engine, "before_cursor_execute", note)
    thread = threading.Thread(target=delete)
    thread.start()
    with postgres.sessions.begin() as session:
        verbs.cancel(session, job.tenant_id, job.id)
        is_asking.set()
        assert is_deleting.wait(10)
        pending = session.scalar(select(func.count()).select_from(WebhookDelivery))
        assert pending == 2
    thread.join()

    with postgres.readers.begin() as session:
        assert session.get_one(Job, job.id).status is JobStatus.CANCELLED
    assert shared.deliveries() == []


def test_no_event_is_larger_than_4_kb(office: Office) -> None:
    office.open_webhook(URL)
    with office.db.sessions.begin() as session:
        make_job(session, labels={f"k{place}": "x" * 200 for place in range(32)})

    assert all(len(json.dumps(body.model_dump(mode="json"))) < 4096 for body in bodies(office.db))
