"""A stranger's client, made of the document alone, looks for answers that the document does not allow."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.conftest import running
from tests.api.test_artifacts import a_run, store
from tests.api.test_over_the_wire import Wire, served
from tests.conftest import make_settings

# A file, a cursor or a spec may fit the schema and mean nothing all the same: those are refused with a 4xx.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture
def wire(sqlite_url: str, tmp_path: Path) -> Iterator[Wire]:
    # What waits is over soon: a thousand requests of the generator's wait one after the other.
    settings = make_settings(
        tmp_path,
        database_url=sqlite_url,
        requests_per_minute=None,
        failures_per_minute=None,
        event_stream_seconds=0.05,
        max_wait_seconds=1,
    )
    with running(settings) as api, served(api.signed_in()) as started:
        store(api, a_run(api), "model.ckpt", b"weights")
        yield started


@pytest.mark.slow
def test_no_generated_request_gets_an_undocumented_answer_or_a_server_error(
    wire: Wire, tmp_path: Path
) -> None:
    program = str(Path(sys.executable).with_name("schemathesis"))
    command = [program, "run", f"http://127.0.0.1:{wire.port}/openapi.json", "--no-color", "--seed", "1"]
    command += ["--header", f"Authorization: {wire.authorization}"]
    command += ["--exclude-checks", LEFT_OUT, "--phases", "examples,coverage"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert re.search(r"Tested: [2-9]\d", done.stdout)
