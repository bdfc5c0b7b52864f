from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from core.access.scopes import Scope
from core.access.secrets import make_key_text, parse_key_text
from core.access.service import authenticate, create_key, tenant_exists
from core.database import Database, db_now
from core.errors import Forbidden, InvalidRequest, Unauthenticated
from core.tables import ApiKey


def create(db: Database, tenant: str = "acme", *scopes: str, expires_at: datetime | None = None) -> str:
    with db.sessions.begin() as session:
        return create_key(session, tenant, scopes or ("jobs:read",), expires_at)[1]


def test_a_key_says_who_is_asking(database: Database) -> None:
    token = create(database, "acme", "jobs:read", "datasets:write")

    principal = authenticate(database, token)

    assert principal.scopes == {Scope.JOBS_READ, Scope.DATASETS_WRITE}
    principal.require(Scope.DATASETS_WRITE)
    with pytest.raises(Forbidden, match="jobs:write"):
        principal.require(Scope.JOBS_WRITE)


def test_admin_has_every_scope_of_its_tenant(sqlite: Database) -> None:
    token = create(sqlite, "acme", "admin")

    authenticate(sqlite, token).require(Scope.JOBS_WRITE)


def test_keys_of_one_name_belong_to_one_tenant(database: Database) -> None:
    tokens = [create(database, name) for name in ("acme", "acme", "other")]

    tenants = [authenticate(database, token).tenant_id for token in tokens]

    assert tenants[0] == tenants[1] != tenants[2]


def test_the_secret_is_not_in_the_database(sqlite: Database) -> None:
    token = create(sqlite)

    with sqlite.readers.begin() as session:
        row = session.execute(select(ApiKey.__table__)).one()

    assert token.rsplit("_", 1)[1] not in str(row)


def test_a_key_is_shown_by_its_prefix_alone(sqlite: Database) -> None:
    with sqlite.sessions.begin() as session:
        read, token = create_key(session, "acme", ["jobs:read"])

    assert token.startswith(f"{read.prefix}_")
    assert len(read.prefix) == len("ft_") + 8


@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "ft_aaaaaaaa_" + "b" * 38, make_key_text().token],
    ids=["empty", "nonsense", "unknown", "well-formed"],
)
def test_a_key_nobody_made_is_refused(database: Database, token: str) -> None:
    with pytest.raises(Unauthenticated):
        authenticate(database, token)


def test_a_known_public_id_with_another_secret_is_refused(sqlite: Database) -> None:
    other = make_key_text()
    create(sqlite)
    with sqlite.sessions.begin() as session:
        session.execute(update(ApiKey).values(public_id=other.public_id))

    with pytest.raises(Unauthenticated):
        authenticate(sqlite, other.token)


def test_an_expired_key_is_refused(database: Database) -> None:
    fresh = create(database, expires_at=datetime.now(UTC) + timedelta(hours=1))
    stale = create(database, expires_at=datetime.now(UTC) - timedelta(seconds=1))

    authenticate(database, fresh)
    with pytest.raises(Unauthenticated):
        authenticate(database, stale)


def test_a_revoked_key_is_refused(database: Database) -> None:
    token = create(database)
    with database.sessions.begin() as session:
        session.execute(update(ApiKey).values(revoked_at=db_now()))

    with pytest.raises(Unauthenticated):
        authenticate(database, token)


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["admin"]), ("a\nb", ["admin"]), ("acme", []), ("acme", ["root"])]
)
def test_a_key_that_makes_no_sense_is_refused(sqlite: Database, name: str, scopes: list[str]) -> None:
    with pytest.raises(InvalidRequest), sqlite.sessions.begin() as session:
        create_key(session, name, scopes)


def test_a_typing_mistake_is_known_without_asking_the_database() -> None:
    token = make_key_text().token
    mistyped = token[:15] + ("a" if token[15] != "a" else "b") + token[16:]

    assert parse_key_text(token) is not None
    assert parse_key_text(mistyped) is None


def test_the_first_tenant_is_noticed(database: Database) -> None:
    with database.sessions.begin() as session:
        assert not tenant_exists(session)
    create(database)
    with database.readers.begin() as session:
        assert tenant_exists(session)
