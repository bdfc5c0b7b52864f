"""`python -m tests.e2e.one_job FOLDER`: submits a job over HTTP, then runs it as a worker does.

Beside it, requests that must leave no trace of their keys and bodies. Logs on stderr; ids on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from opentelemetry import trace
from sqlalchemy import text
from starlette.testclient import TestClient

from api.main import create_app
from core.access import service as access
from core.access.scopes import Scope
from foretrain.setup import set_up
from foretrain.tracing import trace_if_asked
from tests.api.conftest import Recorder
from tests.worker.conftest import PRELUDE
from tests.worker.stations import Station, bench, station
from worker.run_job import run_waiting_jobs

SECRET = "very" + "secret"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRAINER = """
tell("phase", phase="training")
print("not an event", flush=True)
print("epoch 1 of 1", file=sys.stderr)
tell("finished", stop_reason="completed", summary={})
"""


def main(folder: Path) -> None:
    set_up()
    trace_if_asked("test")
    with station(folder / "data") as here:
        ids = _submit(here)
        trainer = folder / "trainer.py"
        trainer.write_text(PRELUDE + TRAINER)
        with bench(here, [sys.executable, "-I", str(trainer)]) as one:
            run_waiting_jobs(one)
        log = here.whole_log(ids["job_id"])
    shutdown = getattr(trace.get_tracer_provider(), "shutdown", None)
    if shutdown is not None:
        shutdown()
    print(json.dumps(ids | {"log": log}))  # noqa: T201  # the test reads it


def _submit(here: Station) -> dict[str, str]:
    with here.db.sessions.begin() as session:
        key = access.create_key(session, "tests", list(Scope))[1]
    app = create_app(here.settings, Recorder().queue())
    with TestClient(app, raise_server_exceptions=False) as client:
        headers = {"Authorization": f"Bearer {key}"}
        traced = headers | {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        body: dict[str, Any] = {"dataset_id": here.dataset_id, "name": SECRET, "labels": {"env": SECRET}}
        answer = client.post("/v1/jobs", headers=traced, json=body)
        _send_what_is_refused(client, headers, body)
        _meet_an_error_of_the_database(here, client, headers, body)
    return {"job_id": answer.json()["id"], "request_id": answer.headers["x-request-id"], "key": key}


def _send_what_is_refused(client: TestClient, headers: dict[str, str], body: dict[str, Any]) -> None:
    client.post("/v1/jobs", headers={"Authorization": f"Bearer ft_{SECRET}"}, json=body)
    client.post("/v1/jobs", headers=headers, content=f'{{"name": "{SECRET}"'.encode())
    client.post("/v1/jobs", headers=headers, json=body | {SECRET: SECRET})
    client.get("/v1/jobs", headers=headers, params={"label": f"env:{SECRET}"})


def _meet_an_error_of_the_database(
    here: Station, client: TestClient, headers: dict[str, str], body: dict[str, Any]
) -> None:
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'refused'); END"
    for statement in (refuse, "DROP TRIGGER refuse"):
        with here.db.sessions.begin() as session:
            session.execute(text(statement))
        if statement == refuse:
            client.post("/v1/jobs", headers=headers, json=body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
