from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "make_secrets.py"


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)


def test_every_secret_that_the_compose_file_mounts_is_written(tmp_path: Path) -> None:
    assert make_secrets(tmp_path).returncode == 0
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounted = {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert mounted == {path.name for path in (tmp_path / "secrets").iterdir()}


def test_the_passwords_agree_between_server_and_client(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    secrets = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert secrets["postgres_password"] in secrets["foretrain_database_url"]
    password = secrets["foretrain_broker_url"].split(":")[2].split("@")[0]
    assert f"requirepass {password}\n" in secrets["valkey.conf"]
    credentials = json.loads(secrets["objects.json"])["identities"][0]["credentials"][0]
    assert credentials["accessKey"] == secrets["foretrain_storage_access_key_id"]
    assert credentials["secretKey"] == secrets["foretrain_storage_secret_access_key"]


def test_a_second_run_changes_nothing_and_says_so(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    before = (tmp_path / "secrets" / "postgres_password").read_text()
    again = make_secrets(tmp_path)
    assert again.returncode == 1
    assert "nothing written" in again.stderr
    assert (tmp_path / "secrets" / "postgres_password").read_text() == before


def test_a_set_from_before_the_pages_gets_its_session_secret_and_keeps_the_rest(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    folder = tmp_path / "secrets"
    (folder / "foretrain_session_secret").unlink()
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert make_secrets(tmp_path).returncode == 0
    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(after.pop("foretrain_session_secret")) >= 32
    assert after == before


def test_half_a_set_is_left_as_it_is(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "secrets" / "valkey.conf").unlink()
    (tmp_path / "secrets" / "foretrain_session_secret").unlink()
    again = make_secrets(tmp_path)
    assert again.returncode == 1
    assert "nothing written" in again.stderr
    assert not (tmp_path / "secrets" / "foretrain_session_secret").exists()


def test_the_folder_is_closed_to_other_users_of_the_host(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
