from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings, load_settings


def test_with_nothing_set_everything_lies_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    assert settings.database_url == f"sqlite:///{tmp_path}/foretrain.db"
    assert settings.broker_url == f"redis+socket://{tmp_path}/run/broker.sock"
    assert settings.storage_url == f"file://{tmp_path}/objects"


def test_variables_are_read_by_their_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FORETRAIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("FORETRAIN_PORT", "9999")
    monkeypatch.setenv("FORETRAIN_CORS_ORIGINS", '["https://dash.example.com"]')

    settings = load_settings()

    assert (settings.data_dir, settings.port) == (tmp_path, 9999)
    assert settings.cors_origins == ["https://dash.example.com"]


def test_secrets_are_read_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "FORETRAIN_DATABASE_URL").write_text("postgresql://user:hushhush@db/foretrain\n")
    (tmp_path / "FORETRAIN_STORAGE_SECRET_ACCESS_KEY").write_text("hushhush-s3\n")
    monkeypatch.setenv("FORETRAIN_SECRETS_DIR", str(tmp_path))

    settings = load_settings()

    assert settings.database_url == "postgresql://user:hushhush@db/foretrain"
    assert settings.storage_secret_access_key is not None
    assert settings.storage_secret_access_key.get_secret_value() == "hushhush-s3"
    assert "hushhush" not in repr(settings)


def test_a_lease_shorter_than_two_heartbeats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="lease_seconds"):
        Settings(data_dir=tmp_path, heartbeat_seconds=5, lease_seconds=9)
