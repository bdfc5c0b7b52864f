"""What there is to train on, and what waits for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from core.database import db_now, later
from core.jobs.lifecycle import JobStatus
from core.tables import Job, Worker
from core.workers import service as workers
from tests.api.conftest import RunningApi
from tests.factories import WORKER, make_dataset, make_job, make_tenant

H100 = {"index": 0, "name": "NVIDIA H100", "memory_bytes": 85_520_809_984, "compute_capability": [9, 0]}


def announce(api: RunningApi, name: str, queue: str, devices: int = 1) -> None:
    gpus = [H100] * devices if queue == "gpu" else []
    precisions = ["32-true", "16-mixed"] if gpus else ["32-true"]
    hardware = {"cpu": "EPYC", "cores": 8, "gpus": gpus, "precisions": precisions}
    with api.db.sessions.begin() as session:
        workers.announce(session, name=name, queue=queue, devices=devices, threads=8, hardware=hardware)


def get(api: RunningApi, path: str) -> dict[str, Any]:
    answer = api.client.get(path)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_capabilities_are_those_of_the_live_workers(any_api: RunningApi) -> None:
    nothing = get(any_api, "/v1/capabilities")
    assert (nothing["max_devices"], nothing["workers"], nothing["accelerators"]) == (0, [], [])
    for name, queue, devices in (("a", "gpu", 2), ("b", "gpu", 2), ("c", "cpu", 1), ("dead", "gpu", 8)):
        announce(any_api, name, queue, devices)
    with any_api.db.sessions.begin() as session:
        silent = update(Worker).where(Worker.name == "dead").values(heartbeat_at=later(db_now(), -61))
        session.execute(silent)

    has = get(any_api, "/v1/capabilities")

    assert has["precisions"] == ["16-mixed", "32-true"]
    assert (has["accelerators"], has["max_devices"]) == (["cpu", "cuda"], 2)
    assert has["max_upload_bytes"] == any_api.settings.max_upload_bytes
    kinds = [(kind["queue"], kind["worker_count"], len(kind["gpus"])) for kind in has["workers"]]
    assert kinds == [("gpu", 2, 2), ("cpu", 1, 0)]
    assert has["workers"][0]["gpus"][0]["compute_capability"] == "9.0"


def test_the_queues_say_what_waits_and_who_is_there(any_api: RunningApi) -> None:
    announce(any_api, WORKER, "cpu")
    announce(any_api, "gpu-box", "gpu")
    with any_api.db.sessions.begin() as session:
        data = make_dataset(session)
        cpu_only = {"accelerator": "cpu"}
        make_job(session, JobStatus.RUNNING, dataset=data, training=cpu_only)
        waiting = make_job(session, dataset=data, training=cpu_only)
        session.execute(update(Job).where(Job.id == waiting.id).values(queued_at=later(db_now(), -60)))
        rival = make_tenant(session, "rival")
        make_job(session, tenant=rival, dataset=make_dataset(session, rival), training=cpu_only)

    gpu, cpu = get(any_api, "/v1/queue")["queues"]

    assert 59 < cpu.pop("oldest_seconds") < 90
    assert cpu == {"name": "cpu", "queued": 2, "running": 1, "workers": 2, "idle_workers": 1}
    assert (gpu["name"], gpu["queued"], gpu["oldest_seconds"], gpu["workers"]) == ("gpu", 0, None, 1)
