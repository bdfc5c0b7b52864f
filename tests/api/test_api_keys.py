"""Keys that are made, listed and revoked over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.access.scopes import Scope
from core.tables import ApiKey, AuditEvent, IdempotencyKey
from tests.api.conftest import RunningApi, running


def make(api: RunningApi, **asked: Any) -> dict[str, Any]:
    """A key made over HTTP, with its secret."""
    answer = api.client.post("/v1/api_keys", json={"scopes": ["jobs:read"]} | asked)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def works(api: RunningApi, secret: str) -> bool:
    return api.client_with(secret).get("/v1/jobs").status_code == 200


def test_a_key_that_was_made_works_until_it_is_revoked(any_api: RunningApi) -> None:
    made = make(any_api, name="grafana")
    assert made["secret"].startswith(made["prefix"])
    assert works(any_api, made["secret"])

    path = f"/v1/api_keys/{made['id']}"
    assert any_api.client.delete(path).status_code == 204

    assert not works(any_api, made["secret"])
    assert any_api.client.get(path).status_code == 404
    assert any_api.client.delete(path).status_code == 204
    listed = {key["id"]: key for key in any_api.client.get("/v1/api_keys").json()["items"]}
    assert listed[made["id"]]["revoked_at"] is not None


def test_a_revoked_key_is_refused_by_every_replica_at_once(any_api: RunningApi) -> None:
    made = make(any_api)
    with running(any_api.settings) as replica:
        assert works(replica, made["secret"])
        any_api.client.delete(f"/v1/api_keys/{made['id']}")
        assert not works(replica, made["secret"])


def test_the_secret_is_shown_once_and_kept_nowhere(api: RunningApi) -> None:
    answer = api.client.post(
        "/v1/api_keys", json={"scopes": ["admin"]}, headers={"Idempotency-Key": "one-key"}
    )
    made = answer.json()
    assert answer.headers["cache-control"] == "no-store"

    for path in ("/v1/api_keys", answer.headers["location"], "/v1/audit_events"):
        assert made["secret"] not in api.client.get(path).text
    with api.db.readers.begin() as session:
        rows = [
            str(session.execute(select(table.__table__)).all())
            for table in (ApiKey, IdempotencyKey, AuditEvent)
        ]
    assert not any(made["secret"].rsplit("_", 1)[1] in row for row in rows)


def test_a_repeated_request_makes_no_second_key_and_says_which_it_made(any_api: RunningApi) -> None:
    def post(body: dict[str, Any]) -> Any:
        return any_api.client.post("/v1/api_keys", json=body, headers={"Idempotency-Key": "nightly"})

    first = post({"scopes": ["jobs:read"]})
    again = post({"scopes": ["jobs:read"]})
    other = post({"scopes": ["admin"]})

    assert (again.status_code, again.json()["code"]) == (409, "secret_shown_once")
    assert first.json()["id"] in again.json()["detail"]
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
    assert len(any_api.client.get("/v1/api_keys").json()["items"]) == 2  # with the client's own


def test_a_key_expires_when_it_was_said_to(api: RunningApi) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = make(api, expires_at=soon)
    assert works(api, made["secret"])
    with api.db.sessions.begin() as session:
        session.get_one(ApiKey, made["id"]).expires_at = datetime.now(UTC) - timedelta(seconds=1)

    assert not works(api, made["secret"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": ["jobs:read"], "expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"scopes": ["jobs:read"], "expires_at": 4_000_000_000}, "/expires_at"),
        ({"scopes": ["jobs:read"], "tenant_id": "ten_" + "0" * 32}, "/tenant_id"),
        ({"scopes": ["jobs:read"], "name": "a\nb"}, "/name"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(api: RunningApi, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post(
        "/v1/api_keys", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_only_an_admin_makes_keys_so_none_grants_what_it_lacks(api: RunningApi) -> None:
    poor = api.client_of("acme", *(scope for scope in Scope if scope is not Scope.ADMIN))

    for scopes in (["admin"], ["jobs:read"]):
        assert poor.post("/v1/api_keys", json={"scopes": scopes}).status_code == 403


def test_keys_of_another_tenant_are_not_there(api: RunningApi) -> None:
    made = make(api)
    rival = api.client_of("rival", Scope.ADMIN)

    assert rival.get(f"/v1/api_keys/{made['id']}").status_code == 404
    assert rival.delete(f"/v1/api_keys/{made['id']}").status_code == 404
    assert made["id"] not in rival.get("/v1/api_keys").text
    assert works(api, made["secret"])


def test_the_list_goes_page_by_page_newest_first(api: RunningApi) -> None:
    made = [make(api)["id"] for _ in range(3)]

    first = api.client.get("/v1/api_keys", params={"limit": 2}).json()
    second = api.client.get("/v1/api_keys", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [item["id"] for item in first["items"]] == made[:0:-1]
    assert second["items"][0]["id"] == made[0]
    assert second["next_cursor"] is None
