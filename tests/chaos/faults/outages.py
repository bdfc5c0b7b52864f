"""A database and an object storage that go away and come back."""

from __future__ import annotations

import os
from signal import SIGCONT, SIGINT, SIGQUIT, SIGSTOP

import boto3
import httpx2
from botocore.config import Config

from tests.chaos.diary import Fault
from tests.chaos.faults.processes import kill_trainer, kill_worker
from tests.chaos.stage import BUCKET, S3_KEY_ID, S3_SECRET, Stage
from tests.processes import eventually

ANSWER_SECONDS = 5.0
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def restart_database(stage: Stage) -> None:
    """A clean restart or a crash; meanwhile the API says that it cannot, and recovers by itself."""
    stage.postgres.send(stage.rng.choice([SIGINT, SIGQUIT]))
    stage.postgres.await_end()
    stage.diary.expect(_status(stage, "GET", "/livez") == 200, "/livez needs the database")
    stage.diary.expect(_status(stage, "GET", "/readyz") == 503, "/readyz is ready without the database")
    submitted = _status(stage, "POST", "/v1/jobs", stage.job_body(stage.draw_plan()))
    stage.diary.expect(submitted == 503, f"without the database a POST is answered {submitted}")
    stage.let_last(0.0, 1.0)
    stage.postgres.start()
    eventually(lambda: _status(stage, "GET", "/readyz") == 200, 30.0)


def _status(stage: Stage, method: str, path: str, body: object = None) -> int:
    try:
        return stage.http.request(method, path, json=body, timeout=ANSWER_SECONDS).status_code
    except httpx2.TimeoutException:
        return 0


def terminate_connections(stage: Stage) -> None:
    stage.pick()
    stage.sql(TERMINATE)


def refuse_storage(stage: Stage) -> None:
    """For everybody, until a good part of the retries is over."""
    stage.pick()
    wires = [lines.storage for lines in stage.lines.values()]
    for wire in wires:
        wire.refuse()
    stage.let_last(0.5, 3.0)


def hang_storage(stage: Stage) -> None:
    """It accepts connections and does not answer."""
    stage.pick()
    os.kill(stage.s3.pid, SIGSTOP)
    try:
        stage.let_last(0.5, 3.0)
    finally:
        os.kill(stage.s3.pid, SIGCONT)


def kill_during_upload(stage: Stage) -> None:
    """The trainer or its worker, while a checkpoint crawls to the storage."""
    victim = stage.pick()
    stage.lines[victim.worker.name].storage.slow(20_000)
    stage.let_last(0.5, 1.5)
    stage.rng.choice([kill_trainer, kill_worker])(stage)


def damage_checkpoint(stage: Stage) -> None:
    """A byte of the state that the next attempt would go on from is another; then the worker is lost."""
    stored = "SELECT storage_key FROM artifacts WHERE job_id = %s AND name = 'resume.safetensors'"
    accepted = stage.submit(stage.draw_plan(steps=60), ends={"succeeded"})
    # Half the way, so that there is a state and the run is not over before it is lost.
    eventually(lambda: stage.sql(stored, accepted.job_id), 90.0)
    s3 = boto3.client(
        "s3",
        endpoint_url=stage.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=S3_KEY_ID,
        aws_secret_access_key=S3_SECRET,
        config=Config(retries={"max_attempts": 1}),
    )
    victims = [victim for victim in stage.running() if victim.job_id == accepted.job_id]
    assert victims, "the job was over before it could be harmed"
    [victim] = victims
    stage.diary.note_hit("checkpoint damaged", victim)
    victim.worker.kill()
    # After the kill, for until then the next checkpoint may take this one's place.
    [(key,)] = stage.sql(stored, accepted.job_id)
    place = {"Bucket": BUCKET, "Key": f"some/prefix/{key}"}
    content = bytearray(s3.get_object(**place)["Body"].read())
    content[len(content) // 2] ^= 1
    s3.put_object(**place, Body=bytes(content))
    stage.damaged.add(key)
    warned = "SELECT count(*) FROM job_events WHERE job_id = %s AND type = 'job.warning'"
    stage.heal()
    eventually(lambda: stage.sql(warned, accepted.job_id) != [(0,)], 60.0)


FAULTS = (
    Fault("database restarted", restart_database, 6, "F10"),
    Fault("database connections terminated", terminate_connections, 8, "F26"),
    Fault("storage refuses", refuse_storage, 6, "F27"),
    Fault("storage hangs", hang_storage, 6, "F27"),
    Fault("killed during an upload", kill_during_upload, 6, "F28"),
    Fault("checkpoint damaged", damage_checkpoint, 5, "F30"),
)
