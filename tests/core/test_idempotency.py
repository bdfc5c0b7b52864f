from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import func, select, update

from core import idempotency
from core.database import Database, db_now, later
from core.errors import IdempotencyMismatch, InvalidRequest
from core.jobs import service
from core.jobs.schemas import JobCreate
from core.tables import IdempotencyKey, Job
from tests.factories import make_dataset, make_tenant

FINGERPRINT = idempotency.fingerprint("POST", "/v1/jobs", b"{}")


def ask(db: Database, tenant_id: str, key: str, request: str = FINGERPRINT) -> dict[str, Any] | None:
    with db.sessions.begin() as session:
        answer = idempotency.replay_or_reserve(session, tenant_id, key, request, keep_hours=24)
        if answer is None:
            idempotency.store_answer(session, tenant_id, key, {"made": key})
        return answer


@pytest.fixture
def tenant_id(database: Database) -> str:
    with database.sessions.begin() as session:
        return make_tenant(session).id


def test_the_first_answer_is_replayed(database: Database, tenant_id: str) -> None:
    assert ask(database, tenant_id, "k1") is None
    assert ask(database, tenant_id, "k1") == {"made": "k1"}


def test_the_same_key_with_another_body_is_refused(database: Database, tenant_id: str) -> None:
    ask(database, tenant_id, "k1")

    with pytest.raises(IdempotencyMismatch):
        ask(database, tenant_id, "k1", idempotency.fingerprint("POST", "/v1/jobs", b'{"a":1}'))


def test_method_path_and_body_do_not_run_into_each_other() -> None:
    assert idempotency.fingerprint("POST", "/v1/a", b"b") != idempotency.fingerprint("POST", "/v1/", b"ab")


def test_a_key_belongs_to_its_tenant(database: Database, tenant_id: str) -> None:
    with database.sessions.begin() as session:
        other = make_tenant(session, "other").id
    ask(database, tenant_id, "k1")

    assert ask(database, other, "k1") is None


def test_a_transaction_that_fails_frees_its_key(database: Database, tenant_id: str) -> None:
    def reserve_and_fail() -> None:
        with database.sessions.begin() as session:
            idempotency.replay_or_reserve(session, tenant_id, "k1", FINGERPRINT, keep_hours=24)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        reserve_and_fail()

    assert ask(database, tenant_id, "k1") is None


def test_a_forgotten_key_can_be_used_anew(database: Database, tenant_id: str) -> None:
    ask(database, tenant_id, "k1")
    with database.sessions.begin() as session:
        idempotency.forget(session, tenant_id, "k1")

    assert ask(database, tenant_id, "k1") is None


def test_an_expired_key_is_new_and_is_swept_away(database: Database, tenant_id: str) -> None:
    for key in ("k1", "k2", "k3"):
        ask(database, tenant_id, key)
    with database.sessions.begin() as session:
        past = update(IdempotencyKey).where(IdempotencyKey.key != "k3")
        session.execute(past.values(expires_at=later(db_now(), -1)))

    assert ask(database, tenant_id, "k1") is None
    with database.sessions.begin() as session:
        idempotency.forget_expired(session)
        assert sorted(session.scalars(select(IdempotencyKey.key))) == ["k1", "k3"]


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "tab\t", "ümlaut"])
def test_a_key_that_is_no_key_is_refused(sqlite: Database, key: str) -> None:
    with pytest.raises(InvalidRequest), sqlite.sessions.begin() as session:
        idempotency.replay_or_reserve(session, "ten_1", key, FINGERPRINT, keep_hours=24)


def test_twenty_requests_with_one_key_make_one_job(database: Database, tenant_id: str) -> None:
    with database.sessions.begin() as session:
        dataset_id = make_dataset(session).id
    gate = threading.Barrier(20)

    def submit(_: int) -> str:
        gate.wait()
        with database.sessions.begin() as session:
            answer = idempotency.replay_or_reserve(session, tenant_id, "k1", FINGERPRINT, keep_hours=24)
            if answer is None:
                job = service.submit(session, tenant_id, JobCreate(dataset_id=dataset_id))
                answer = {"job_id": job.id}
                idempotency.store_answer(session, tenant_id, "k1", answer)
            return str(answer["job_id"])

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(submit, range(20)))

    assert len(answers) == 1
    with database.readers.begin() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 1
