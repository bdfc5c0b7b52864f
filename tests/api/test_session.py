"""Signing in on the pages: what the cookie opens, and what ends it."""

from __future__ import annotations

import pytest
from itsdangerous import URLSafeTimedSerializer
from starlette.testclient import TestClient

from api.session_cookie import COOKIE
from core.access.scopes import Scope
from core.access.sessions import Tickets
from core.database import db_now
from core.tables import ApiKey
from tests.api.conftest import RunningApi

ORIGIN = {"Origin": "http://testserver"}
JOB = f"/v1/jobs/job_{'0' * 32}"


def sign_in(api: RunningApi, *scopes: Scope) -> tuple[TestClient, str]:
    """A browser that has signed in, and the key it has shown."""
    key = api.key(*scopes)
    browser = api.client_with(None)
    answer = browser.post("/session", json={"key": key}, headers=ORIGIN)
    assert answer.status_code == 200, answer.text
    return browser, key


def test_a_key_opens_a_session_that_reads_and_writes_like_the_key(api: RunningApi) -> None:
    browser, _ = sign_in(api)
    assert browser.get("/v1/jobs").status_code == 200
    assert browser.get(JOB).status_code == 404
    assert browser.post(f"{JOB}/cancel", headers=ORIGIN).status_code == 404


def test_a_session_may_do_no_more_than_its_key(api: RunningApi) -> None:
    browser, _ = sign_in(api, Scope.JOBS_READ)
    assert browser.get("/session").json()["scopes"] == ["jobs:read"]
    assert browser.post(f"{JOB}/cancel", headers=ORIGIN).json()["code"] == "forbidden"
    assert browser.get("/v1/datasets").json()["code"] == "forbidden"


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites_and_holds_no_secret(api: RunningApi) -> None:
    browser, key = sign_in(api)
    answer = browser.post("/session", json={"key": key}, headers=ORIGIN | {"X-Forwarded-Proto": "https"})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    secret = key.split("_")[2]
    assert all(secret[start : start + 6] not in cookie for start in range(len(secret) - 6))
    assert answer.headers["cache-control"] == "no-store"


def test_a_wrong_key_opens_nothing(api: RunningApi) -> None:
    browser = api.client_with(None)
    for key in ("nonsense", "ft_aaaaaaaa_" + "b" * 38, api.key()[:-1] + "!"):
        answer = browser.post("/session", json={"key": key}, headers=ORIGIN)
        assert answer.json()["code"] == "unauthenticated"
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://elsewhere"}, {"Origin": "null"}, {"Origin": "http://testserver.elsewhere"}],
)
def test_another_sites_page_can_neither_sign_in_nor_write_nor_sign_out(
    api: RunningApi, headers: dict[str, str]
) -> None:
    browser, key = sign_in(api)
    for answer in (
        browser.post("/session", json={"key": key}, headers=headers),
        browser.post(f"{JOB}/cancel", headers=headers),
        browser.post("/v1/datasets", content=b"a,b\n", headers=headers | {"Content-Type": "text/csv"}),
        browser.delete("/session", headers=headers),
    ):
        assert answer.status_code == 403, answer.request.url
    assert browser.get("/v1/jobs").status_code == 200


def test_a_revoked_key_ends_its_session_at_once(api: RunningApi) -> None:
    browser, key = sign_in(api)
    with api.db.sessions.begin() as session:
        row = session.query(ApiKey).filter_by(public_id=key.split("_")[1]).one()
        row.revoked_at = session.scalar(db_now())
    assert browser.get("/v1/jobs").status_code == 401
    assert browser.get(JOB).status_code == 401
    assert browser.get("/jobs", follow_redirects=False).status_code == 303


def test_signing_out_takes_the_cookie(api: RunningApi) -> None:
    browser, _ = sign_in(api)
    assert browser.delete("/session", headers=ORIGIN).status_code == 204
    assert COOKIE not in browser.cookies
    assert browser.get("/v1/jobs").status_code == 401
    assert browser.delete("/session", headers=ORIGIN).status_code == 204


def test_a_ticket_of_another_secret_is_none(api: RunningApi) -> None:
    key = api.key()
    forger = Tickets("a secret that the service does not have", 1)
    browser = api.client_with(None)
    browser.cookies.set(COOKIE, forger.issue(key.split("_")[1]))
    assert browser.get("/v1/jobs").status_code == 401


def test_a_ticket_is_good_for_its_hours_alone() -> None:
    ticket = Tickets("a secret of many letters", 1).issue("AbCd1234")
    assert Tickets("a secret of many letters", 1).read(ticket) is not None
    assert Tickets("a secret of many letters", -1).read(ticket) is None


def test_a_ticket_is_bound_to_its_purpose() -> None:
    other = URLSafeTimedSerializer("a secret of many letters", salt="another purpose").dumps("AbCd1234")
    assert Tickets("a secret of many letters", 1).read(str(other)) is None
