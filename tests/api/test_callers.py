"""What a caller may ask in a minute, and what one without a good key may try."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.access.secrets import make_key_text
from core.tables import ApiKey
from tests.api.conftest import RunningApi, running
from tests.conftest import make_settings

PER_MINUTE, FAILURES = 5, 3


@pytest.fixture
def strict(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningApi]:
    """A service with low limits behind a proxy that it trusts, in a minute that does not end."""
    settings = make_settings(
        tmp_path,
        database_url=sqlite_url,
        requests_per_minute=PER_MINUTE,
        failures_per_minute=FAILURES,
        trusted_proxies=["10.0.0.0/8"],
        cors_origins=["https://ops.example"],
    )
    with running(settings) as started:
        monkeypatch.setattr(started.app.state.resources.rates, "_clock", lambda: 1_000_000_000.0)
        yield started.signed_in()


def visitor(api: RunningApi, key: str | None, address: str, forwarded: str | None = None) -> TestClient:
    """A client whose connection comes from this address."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if forwarded is not None:
        headers["X-Forwarded-For"] = forwarded
    client = TestClient(api.app, headers=headers, client=(address, 1234), raise_server_exceptions=False)
    client.portal = api.client.portal
    return client


def statuses(client: TestClient, times: int, path: str = "/v1/jobs") -> list[int]:
    return [client.get(path).status_code for _ in range(times)]


def test_every_answer_says_what_is_left_and_the_one_too_many_when_to_come_again(strict: RunningApi) -> None:
    answers = [strict.client.get("/v1/jobs", headers={"Origin": "https://ops.example"}) for _ in range(7)]

    assert [answer.status_code for answer in answers] == [200] * PER_MINUTE + [429] * 2
    assert [answer.headers["ratelimit"] for answer in answers[:2]] == [
        '"default";r=4;t=20',
        '"default";r=3;t=20',
    ]
    refused = answers[-1]
    assert refused.headers["ratelimit-policy"] == '"default";q=5;w=60'
    assert refused.headers["ratelimit"] == '"default";r=0;t=20'
    assert refused.headers["retry-after"] == "20"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert refused.headers["access-control-allow-origin"] == "https://ops.example"
    assert "RateLimit" in refused.headers["access-control-expose-headers"]


def test_a_poll_and_an_unknown_path_say_it_too(strict: RunningApi) -> None:
    for path in ("/v1/jobs/job_" + "0" * 32, "/v1/nothing"):
        answer = strict.client.get(path)
        assert answer.status_code == 404
        assert answer.headers["ratelimit-policy"] == '"default";q=5;w=60'


def test_other_keys_and_other_tenants_go_on(strict: RunningApi) -> None:
    assert statuses(strict.client, 7)[-1] == 429

    assert strict.client_of("acme").get("/v1/jobs").status_code == 200
    assert strict.client_of("rival").get("/v1/jobs").status_code == 200


def test_the_same_key_written_otherwise_is_the_same_key(strict: RunningApi) -> None:
    key = strict.key()
    found = [
        strict.client_with(None).get("/v1/jobs", headers={"Authorization": f"{scheme} {key}"}).status_code
        for scheme in ("Bearer", "bearer", "BEARER", "bEarer", "Bearer", "beareR")
    ]

    assert found == [200] * PER_MINUTE + [429]


def test_nobody_uses_up_a_keys_requests_by_knowing_its_prefix(strict: RunningApi) -> None:
    forged = make_key_text()
    with strict.db.sessions.begin() as session:
        session.query(ApiKey).one().public_id = forged.public_id
    assert statuses(visitor(strict, forged.token, "192.0.2.1"), 2) == [401, 401]

    assert strict.app.state.resources.rates._own[f"key:{forged.sha256[:32]}"] == 2
    assert len(strict.app.state.resources.rates._own) == 2  # that token and that address


def test_bad_keys_from_one_address_come_to_an_end_and_good_ones_known_before_go_on(
    strict: RunningApi,
) -> None:
    good = visitor(strict, strict.key(), "192.0.2.7")
    assert statuses(good, 1) == [200]
    bad = visitor(strict, make_key_text().token, "192.0.2.7")

    tried = [bad.get("/v1/jobs") for _ in range(FAILURES + 2)]

    assert [answer.status_code for answer in tried] == [401] * FAILURES + [429] * 2
    assert tried[0].headers["ratelimit"] == '"failures";r=2;t=20'
    assert tried[-1].headers["retry-after"] == "20"
    assert statuses(visitor(strict, None, "192.0.2.7"), 1) == [401]  # tries no key, and asks no database
    assert statuses(good, 1) == [200]
    assert statuses(visitor(strict, make_key_text().token, "192.0.2.8"), 1) == [401]
    assert statuses(visitor(strict, None, "192.0.2.7"), 1, "/livez") == [200]


def test_a_machine_that_moves_within_its_ipv6_network_is_one_address(strict: RunningApi) -> None:
    found: list[int] = []
    for host in range(FAILURES + 1):
        found += statuses(visitor(strict, "no key", f"2001:db8::{host + 1:x}"), 1)

    assert found == [401] * FAILURES + [429]
    assert statuses(visitor(strict, "no key", "2001:db8:0:1::1"), 1) == [401]


@pytest.mark.parametrize(
    ("connected", "forwarded", "counted"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),  # not a proxy of ours: what it says of others is nothing
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # what the caller wrote before it
        ("10.0.0.2", "198.51.100.1, 10.0.0.9", "198.51.100.1"),  # two proxies
        ("10.0.0.2", "nonsense", "10.0.0.2"),
        ("10.0.0.2", None, "10.0.0.2"),
    ],
)
def test_an_address_is_what_a_trusted_proxy_says_and_no_one_else(
    strict: RunningApi, connected: str, forwarded: str | None, counted: str
) -> None:
    visitor(strict, "no key", connected, forwarded).get("/v1/jobs")

    assert dict(strict.app.state.resources.rates._own) == {f"from:{counted}": 1}


def test_without_limits_nothing_is_refused_or_said(sqlite_url: str, tmp_path: Path) -> None:
    free: dict[str, Any] = {"requests_per_minute": None, "failures_per_minute": None}
    with running(make_settings(tmp_path, database_url=sqlite_url, **free)) as api:
        assert statuses(visitor(api, "no key", "192.0.2.1"), 70) == [401] * 70
        assert "ratelimit" not in api.signed_in().client.get("/v1/jobs").headers


def test_a_key_that_was_used_says_when(api: RunningApi) -> None:
    api.client.get("/v1/jobs")
    api.app.state.resources.key_use.write()

    assert api.client.get("/v1/api_keys").json()["items"][0]["last_used_at"] is not None


def test_who_has_signed_in_on_the_pages_is_limited_too_and_bad_sign_ins_are_counted(
    strict: RunningApi,
) -> None:
    page = visitor(strict, None, "192.0.2.9")
    page.headers["Origin"] = "http://testserver"
    assert page.post("/session", json={"key": strict.key()}).status_code == 200

    assert statuses(page, PER_MINUTE + 1) == [200] * PER_MINUTE + [429]

    tried = [page.post("/session", json={"key": make_key_text().token}) for _ in range(FAILURES + 1)]
    assert [answer.status_code for answer in tried[-2:]] == [429, 429]
