from __future__ import annotations

import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from standardwebhooks.webhooks import WebhookVerificationError

from core.database import Database, db_now, later
from core.jobs.lifecycle import JobStatus
from core.monitoring import tallies
from core.monitoring.tallies import Key
from core.settings import Settings
from core.tables import Webhook, WebhookDelivery
from core.webhooks import repository, service, settling
from core.webhooks.lifecycle import WAITS_SECONDS
from core.webhooks.schemas import SecretRotation, WebhookChange, WebhookWithSecret
from tests.conftest import make_settings
from tests.core.webhooks.conftest import Office, local_settings
from tests.core.webhooks.receiver import Receiver, receiving
from tests.factories import make_job, make_tenant


def wait_of(office: Office) -> float:
    """Seconds until the only delivery is tried again."""
    with office.db.readers.begin() as session:
        row = session.scalars(select(WebhookDelivery)).one()
        now = session.execute(select(db_now())).scalar_one()
    assert row.next_attempt_at is not None
    return (row.next_attempt_at - now).total_seconds()


def test_a_jobs_events_arrive_signed_and_in_order(any_office: Office, receiver: Receiver) -> None:
    webhook = any_office.open_webhook(receiver.url)
    with any_office.db.sessions.begin() as session:
        make_job(session, JobStatus.SUCCEEDED)

    any_office.deliver()

    events = [request.verified(webhook.secret) for request in receiver.requests]
    assert [event["type"] for event in events] == ["job.queued", "job.running", "job.succeeded"]
    assert receiver.message_ids == [event["id"] for event in events]
    assert receiver.requests[0].path == "/hook?team=edge"
    assert receiver.requests[0].headers["content-type"] == "application/json"
    # One connection for them all.
    assert receiver.connections == 1
    for delivery in any_office.deliveries():
        assert delivery.status == "delivered"
        assert [(one.outcome, one.response_status) for one in delivery.attempts] == [("delivered", 204)]
        assert delivery.finished_at is not None
    with any_office.db.readers.begin() as session:
        assert tallies.read(session)[Key("webhook", "delivered")].count == 3


def test_a_changed_byte_another_secret_and_an_old_request_do_not_verify(
    office: Office, receiver: Receiver
) -> None:
    webhook = office.open_webhook(receiver.url)
    other = office.open_webhook(receiver.url)
    office.send_test(webhook)
    office.deliver()
    (request,) = receiver.requests

    assert request.verified(webhook.secret)["type"] == "webhook.test"
    old = str(int((datetime.now(UTC) - timedelta(minutes=6)).timestamp()))
    forged = [
        type(request)(request.path, request.headers, request.body.replace(b"test", b"tost", 1)),
        type(request)(request.path, request.headers | {"webhook-timestamp": old}, request.body),
        type(request)(request.path, request.headers | {"webhook-id": "evt_other"}, request.body),
    ]
    for forgery in forged:
        with pytest.raises(WebhookVerificationError):
            forgery.verified(webhook.secret)
    with pytest.raises(WebhookVerificationError):
        request.verified(other.secret)


def rotate(office: Office, webhook: WebhookWithSecret, **chosen: Any) -> WebhookWithSecret:
    with office.db.sessions.begin() as session:
        asked = SecretRotation(**chosen)
        return service.rotate_secret(session, make_tenant(session).id, webhook.id, asked)


def test_after_a_rotation_both_secrets_verify_until_the_overlap_is_over(
    office: Office, receiver: Receiver
) -> None:
    webhook = office.open_webhook(receiver.url)
    rotated = rotate(office, webhook)
    office.send_test(webhook)
    office.deliver()
    assert receiver.requests[0].verified(webhook.secret) == receiver.requests[0].verified(rotated.secret)

    with office.db.sessions.begin() as session:
        session.execute(update(Webhook).values(previous_secret_expires_at=later(db_now(), -1)))
    office.send_test(webhook)
    office.deliver()
    assert receiver.requests[1].verified(rotated.secret)
    with pytest.raises(WebhookVerificationError):
        receiver.requests[1].verified(webhook.secret)


def test_a_rotation_without_overlap_ends_the_old_secret_at_once(office: Office, receiver: Receiver) -> None:
    webhook = office.open_webhook(receiver.url)
    rotate(office, webhook, overlap_seconds=0)
    office.send_test(webhook)
    office.deliver()
    with pytest.raises(WebhookVerificationError):
        receiver.requests[0].verified(webhook.secret)


def test_what_fails_is_tried_again_over_three_days_with_the_same_id_and_then_given_up(
    office: Office, receiver: Receiver
) -> None:
    receiver.status, receiver.body = 500, b"no"
    office.send_test(office.open_webhook(receiver.url))

    for wait in WAITS_SECONDS:
        office.deliver()
        assert 0.8 * wait - 5 < wait_of(office) < 1.2 * wait + 5
        office.make_due()
    office.deliver()

    (delivery,) = office.deliveries()
    assert delivery.status == "failed"
    assert delivery.next_attempt_at is None
    assert len(delivery.attempts) == len(receiver.requests) == 10
    assert len(set(receiver.message_ids)) == 1
    assert {(one.outcome, one.response_status, one.response_excerpt) for one in delivery.attempts} == {
        ("http_error", 500, "no")
    }
    assert 72 * 3600 < sum(WAITS_SECONDS) < 80 * 3600


def test_an_endpoint_that_fails_is_left_alone_and_one_that_recovers_gets_all(
    office: Office, receiver: Receiver
) -> None:
    receiver.status = 503
    webhook = office.open_webhook(receiver.url)
    for _ in range(3):
        office.send_test(webhook)
    office.deliver()
    office.deliver()
    assert len(receiver.requests) == 1
    assert office.webhook(webhook).failing_since is not None

    receiver.status = 200
    office.make_due()
    office.deliver()
    assert {delivery.status for delivery in office.deliveries()} == {"delivered"}
    assert office.webhook(webhook).failing_since is None


def test_it_is_waited_as_long_as_the_endpoint_asks(office: Office, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": "120"}
    office.send_test(office.open_webhook(receiver.url))
    office.deliver()
    assert 110 < wait_of(office) < 121

    moment = datetime.now(UTC) + timedelta(hours=2)
    receiver.headers = {"Retry-After": moment.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    office.make_due()
    office.deliver()
    assert 7000 < wait_of(office) < 7201


def test_a_redirect_is_not_followed(office: Office, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.status, receiver.headers = 307, {"Location": elsewhere.url}
        office.send_test(office.open_webhook(receiver.url))
        office.deliver()
        assert elsewhere.connections == 0
    (delivery,) = office.deliveries()
    assert [one.outcome for one in delivery.attempts] == ["redirected"]
    assert delivery.status == "pending"


def test_an_endpoint_that_is_gone_disables_its_webhook(office: Office, receiver: Receiver) -> None:
    receiver.status = 410
    webhook = office.open_webhook(receiver.url)
    for _ in range(2):
        office.send_test(webhook)
    office.deliver()

    read = office.webhook(webhook)
    assert not read.enabled
    assert read.disabled_reason is not None
    assert read.disabled_reason.code == "gone"
    assert [delivery.status for delivery in office.deliveries()] == ["failed", "failed"]
    office.make_due()
    office.deliver()
    assert len(receiver.requests) == 1


def test_a_webhook_that_fails_for_days_is_disabled_and_says_why(office: Office, receiver: Receiver) -> None:
    receiver.status = 500
    webhook = office.open_webhook(receiver.url)
    office.send_test(webhook)
    office.deliver()
    assert office.webhook(webhook).enabled
    with office.db.sessions.begin() as session:
        session.execute(update(Webhook).values(failing_since=later(db_now(), -5.1 * 86_400)))
    office.make_due()
    office.deliver()

    reason = office.webhook(webhook).disabled_reason
    assert reason is not None
    assert reason.code == "failing"
    assert "5 days" in reason.message
    receiver.status = 200
    with office.db.sessions.begin() as session:
        service.change(
            session, make_tenant(session).id, webhook.id, WebhookChange(enabled=True), office.settings
        )
    office.send_test(webhook)
    office.deliver()
    assert [delivery.status for delivery in office.deliveries()] == ["failed", "delivered"]


def test_of_an_endless_answer_only_the_first_bytes_are_read(office: Office, receiver: Receiver) -> None:
    receiver.status, receiver.body = 200, b"x" * 20_000_000
    office.send_test(office.open_webhook(receiver.url))
    office.deliver()

    (delivery,) = office.deliveries()
    assert delivery.attempts[0].response_excerpt == "x" * 1_000
    assert delivery.status == "delivered"


def test_an_answer_that_is_no_text_is_shown_all_the_same(any_office: Office, receiver: Receiver) -> None:
    receiver.status, receiver.body = 500, b"\x00\xff\xfe\x00"
    any_office.send_test(any_office.open_webhook(receiver.url))
    any_office.deliver()

    assert any_office.deliveries()[0].attempts[0].response_excerpt is not None


def test_a_slow_endpoint_is_cut_off_and_holds_up_nobody(
    sqlite: Database, receiver: Receiver, tmp_path: Path
) -> None:
    office = Office(sqlite, local_settings(tmp_path, webhook_timeout_seconds=0.5))
    with receiving() as slow:
        slow.is_open.clear()
        hanging = office.open_webhook(slow.url)
        office.send_test(hanging)
        healthy = office.open_webhook(receiver.url)
        office.couriers.dispatch()
        assert slow.arrived.acquire(timeout=5)
        # While the slow one is waited for, sweeps go on and others are served.
        office.send_test(healthy)
        office.couriers.dispatch()
        assert receiver.arrived.acquire(timeout=5)
        office.couriers.join()

    outcomes = {one.webhook_id: one.attempts[0].outcome for one in office.deliveries()}
    assert outcomes == {hanging.id: "timed_out", healthy.id: "delivered"}


def test_nobody_listening_is_unreachable(office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    office.send_test(office.open_webhook(f"http://127.0.0.1:{port}/"))
    office.deliver()
    assert [one.outcome for one in office.deliveries()[0].attempts] == ["unreachable"]


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_nothing_is_ever_sent_to_this_machine(
    office: Office, receiver: Receiver, tmp_path: Path, host: str
) -> None:
    # As after a name has changed what it stands for: the address was fine when it was taken.
    office.send_test(office.open_webhook(receiver.url.replace("127.0.0.1", host)))
    strict = Office(office.db, make_settings(tmp_path))
    strict.deliver()

    assert receiver.connections == 0
    assert [one.outcome for one in office.deliveries()[0].attempts] == ["blocked"]


def test_what_was_sent_but_not_noted_is_sent_again_with_the_same_id_and_is_never_lost(
    any_office: Office, receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_office.send_test(any_office.open_webhook(receiver.url))

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        # The process ends after the endpoint has answered and before that is written down.
        patch.setattr(settling, "settle", die)
        any_office.deliver()
    assert len(receiver.requests) == 1
    survivor = Office(any_office.db, settings)
    survivor.deliver()
    assert len(receiver.requests) == 1, "the lease has not run out"

    survivor.make_due()
    survivor.deliver()
    survivor.deliver()
    assert len(receiver.requests) == 2
    assert len(set(receiver.message_ids)) == 1
    assert [delivery.status for delivery in any_office.deliveries()] == ["delivered"]


def test_a_late_settlement_of_a_lost_claim_changes_nothing(any_office: Office) -> None:
    webhook = any_office.open_webhook("http://127.0.0.1:9/")
    any_office.send_test(webhook)
    with any_office.db.sessions.begin() as session:
        late = repository.claim(session, webhook.id, 0.0)
    with any_office.db.sessions.begin() as session:
        holder = repository.claim(session, webhook.id, 60.0)
        assert late is not None
        assert holder is not None
        assert repository.lock_claimed(session, late) is None
        assert repository.lock_claimed(session, holder) is not None


def test_two_schedulers_send_each_delivery_once(
    any_office: Office, receiver: Receiver, settings: Settings
) -> None:
    other = Office(any_office.db, settings)
    for _ in range(3):
        webhook = any_office.open_webhook(receiver.url)
        for _ in range(5):
            any_office.send_test(webhook)

    any_office.couriers.dispatch()
    other.couriers.dispatch()
    any_office.couriers.join()
    other.couriers.join()

    assert Counter(receiver.message_ids).most_common(1)[0][1] == 1
    assert len(receiver.requests) == 15
    assert {delivery.status for delivery in any_office.deliveries()} == {"delivered"}


def test_a_replay_sends_the_same_message_once_more(office: Office, receiver: Receiver) -> None:
    delivery_id = office.send_test(office.open_webhook(receiver.url))
    office.deliver()
    with office.db.sessions.begin() as session:
        replayed = service.replay(session, make_tenant(session).id, delivery_id)
    assert replayed.status == "pending"
    office.deliver()

    first, second = receiver.requests
    assert (first.message_id, first.body) == (second.message_id, second.body)
    (delivery,) = office.deliveries()
    assert len(delivery.attempts) == 2
    assert delivery.status == "delivered"


def test_nothing_more_is_sent_once_the_scheduler_stops(office: Office, receiver: Receiver) -> None:
    webhook = office.open_webhook(receiver.url)
    for _ in range(3):
        office.send_test(webhook)
    receiver.is_open.clear()
    office.couriers.dispatch()
    assert receiver.arrived.acquire(timeout=5)
    office.is_stopping = True
    receiver.is_open.set()
    office.couriers.join()

    assert [one.status for one in office.deliveries()] == ["delivered", "pending", "pending"]


def test_only_what_ended_long_ago_is_forgotten(any_office: Office, receiver: Receiver) -> None:
    webhook = any_office.open_webhook(receiver.url)
    old, lately = any_office.send_test(webhook), any_office.send_test(webhook)
    any_office.deliver()
    waiting = any_office.send_test(webhook)
    with any_office.db.sessions.begin() as session:
        long_ago = later(db_now(), -100)
        session.execute(update(WebhookDelivery).where(WebhookDelivery.id == old).values(finished_at=long_ago))
        assert repository.forget_deliveries(session, 50, limit=10) == 1

    assert [delivery.id for delivery in any_office.deliveries()] == [lately, waiting]
