from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from core import migrations
from core.access import service as access
from core.access.scopes import Scope
from core.database import connect
from core.errors import Unauthenticated
from core.settings import load_settings
from core.tables import AuditEvent
from foretrain import errands
from foretrain.refusals import Refusal


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A deployment below the test's folder."""
    return {
        "PATH": "/usr/bin:/bin",
        "FORETRAIN_DATA_DIR": str(tmp_path),
        "FORETRAIN_DATABASE_URL": f"sqlite:///{tmp_path / 'service.db'}",
        "FORETRAIN_STORAGE_URL": (tmp_path / "bucket").as_uri(),
    }


def foretrain(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "foretrain", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.mark.slow
def test_migrate_then_a_key_with_just_these_scopes(environment: dict[str, str]) -> None:
    assert foretrain(environment, "migrate").returncode == 0
    made = foretrain(environment, "keys", "create", "--tenant", "ops", "--scopes", "jobs:read, datasets:read")

    assert made.returncode == 0, made.stderr
    assert migrations.current(environment["FORETRAIN_DATABASE_URL"]) == migrations.head()
    db = connect(environment["FORETRAIN_DATABASE_URL"])
    principal = access.authenticate(db, made.stdout.strip())
    db.dispose()
    assert principal.scopes == {Scope.JOBS_READ, Scope.DATASETS_READ}


def test_keys_are_listed_and_revoked_on_the_machine(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORETRAIN_DATABASE_URL", sqlite_url)
    monkeypatch.setattr(errands, "set_up", load_settings)
    errands.create_api_key("ops", ["jobs:read"], None, None, "grafana")
    secret = capsys.readouterr().out.strip()
    errands.list_api_keys("ops", None)
    key_id, prefix, scopes, state, used, name = capsys.readouterr().out.strip().split("\t")
    assert secret.startswith(prefix)
    assert (scopes, state, used, name) == ("jobs:read", "usable", "never used", "grafana")

    errands.revoke_api_key("ops", key_id, None)

    errands.list_api_keys("ops", None)
    assert "revoked" in capsys.readouterr().out.splitlines()[-1]
    db = connect(sqlite_url)
    with pytest.raises(Unauthenticated):
        access.authenticate(db, secret)
    with db.readers.begin() as session:
        actions = session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)).all()
    db.dispose()
    assert actions == ["create_api_key", "revoke_api_key"]
    with pytest.raises(Refusal, match="no tenant nobody"):
        errands.list_api_keys("nobody", None)


@pytest.mark.slow
def test_migrate_twice_changes_nothing(environment: dict[str, str]) -> None:
    foretrain(environment, "migrate")

    again = foretrain(environment, "migrate")

    assert again.returncode == 0
    assert "as before" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["keys", "create", "--tenant", "ops", "--scopes", "jobs:fly"], "Unknown scope jobs:fly"),
        (["keys", "create", "--tenant", " "], "A tenant's name has"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused_in_a_sentence(
    environment: dict[str, str], arguments: list[str], sentence: str
) -> None:
    foretrain(environment, "migrate")

    refused = foretrain(environment, *arguments)

    assert refused.returncode == 2
    assert sentence in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
def test_a_key_before_the_first_migration_says_what_to_do(environment: dict[str, str]) -> None:
    refused = foretrain(environment, "keys", "create", "--tenant", "ops")

    assert refused.returncode == 2
    assert "foretrain migrate" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_the_bucket_is_made_once(environment: dict[str, str], tmp_path: Path) -> None:
    first = foretrain(environment, "storage", "create-bucket")
    second = foretrain(environment, "storage", "create-bucket")

    assert (first.returncode, second.returncode) == (0, 0)
    assert (tmp_path / "bucket").is_dir()
    assert "was there already" in second.stdout


@pytest.mark.slow
def test_a_wrong_setting_is_named_without_its_value(environment: dict[str, str]) -> None:
    environment["FORETRAIN_LEASE_SECONDS"] = "hunter2"

    refused = foretrain(environment, "migrate")

    assert refused.returncode == 2
    assert "FORETRAIN_LEASE_SECONDS" in refused.stderr
    assert "hunter2" not in refused.stderr
