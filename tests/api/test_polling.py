"""What a poll costs and notices."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import text, update

from core.access.scopes import Scope
from core.database import db_now, later
from core.jobs.lifecycle import JobStatus
from core.tables import ApiKey, Job
from tests.api.conftest import RunningApi
from tests.factories import make_dataset, make_job
from tests.statements import Sent, sqlite_plan, statements


def sent_by(api: RunningApi) -> AbstractContextManager[Sent]:
    """What the application asks its database meanwhile."""
    return statements(api.app.state.resources.db.engine)


def job_in(api: RunningApi, status: JobStatus) -> str:
    with api.db.sessions.begin() as session:
        return make_job(session, status).id


def held(api: RunningApi, job_id: str) -> dict[str, str]:
    """The header of a client that has the job as it is now."""
    return {"If-None-Match": api.client.get(f"/v1/jobs/{job_id}").headers["etag"]}


def test_an_unchanged_job_costs_one_statement_with_the_key_in_it(any_api: RunningApi) -> None:
    for status in (JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.SUCCEEDED):
        job_id = job_in(any_api, status)
        tag = held(any_api, job_id)

        with sent_by(any_api) as sent:
            assert any_api.client.get(f"/v1/jobs/{job_id}", headers=tag).status_code == 304

        assert len(sent) == 1, sent


def test_that_statement_looks_both_up_by_index(api: RunningApi) -> None:
    job_id = job_in(api, JobStatus.RUNNING)
    tag = held(api, job_id)
    with sent_by(api) as sent:
        api.client.get(f"/v1/jobs/{job_id}", headers=tag)

    plan = sqlite_plan(api.db.engine, *sent[0])

    assert [step.split()[0] for step in plan] == ["SEARCH", "SEARCH"], plan


def test_a_revoked_or_expired_key_is_refused_at_the_next_poll(any_api: RunningApi) -> None:
    job_id = job_in(any_api, JobStatus.RUNNING)
    tag = held(any_api, job_id)
    for change in ({"revoked_at": db_now()}, {"revoked_at": None, "expires_at": later(db_now(), -1)}):
        with any_api.db.sessions.begin() as session:
            session.execute(update(ApiKey).values(**change))

        assert any_api.client.get(f"/v1/jobs/{job_id}", headers=tag).status_code == 401


def test_who_may_not_read_the_job_learns_nothing_from_its_tag(api: RunningApi) -> None:
    job_id = job_in(api, JobStatus.RUNNING)
    tag = held(api, job_id)

    assert api.client_of("stranger").get(f"/v1/jobs/{job_id}", headers=tag).status_code == 404
    assert (
        api.client_of("acme", Scope.DATASETS_READ).get(f"/v1/jobs/{job_id}", headers=tag).status_code == 403
    )


def test_a_worker_that_falls_silent_is_news(any_api: RunningApi) -> None:
    job_id = job_in(any_api, JobStatus.RUNNING)
    tag = held(any_api, job_id)
    with any_api.db.sessions.begin() as session:
        session.execute(update(Job).values(heartbeat_at=later(db_now(), -20)))

    answer = any_api.client.get(f"/v1/jobs/{job_id}", headers=tag)

    assert (answer.status_code, answer.json()["stalled"]) == (200, True)


def test_the_line_is_read_once_for_many_answers(api: RunningApi) -> None:
    with api.db.sessions.begin() as session:
        data = make_dataset(session)
        jobs = [make_job(session, dataset=data).id for _ in range(3)]
    places = [api.client.get(f"/v1/jobs/{job_id}").json()["queue"]["position"] for job_id in jobs]
    with api.db.sessions.begin() as session:
        session.execute(text("UPDATE jobs SET priority = 5 WHERE id = :last"), {"last": jobs[-1]})

    with sent_by(api) as sent:
        again = [item["queue"]["position"] for item in api.client.get("/v1/jobs").json()["items"]]

    assert places == [1, 2, 3]
    assert sorted(again) == [1, 1, 2]
    assert not any("workers" in statement for statement, _ in sent)


def test_a_job_that_came_after_the_line_was_read_stands_behind_it(api: RunningApi) -> None:
    first = job_in(api, JobStatus.QUEUED)
    api.client.get(f"/v1/jobs/{first}")

    second = api.client.get(f"/v1/jobs/{job_in(api, JobStatus.QUEUED)}").json()["queue"]

    assert second["position"] == 2
