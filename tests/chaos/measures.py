"""How long things take: at the shipped settings, with the broker away, and with the real trainer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from signal import SIGTERM

from tests.chaos.diary import Fault, Hit
from tests.chaos.faults import processes
from tests.chaos.judge import Promise
from tests.chaos.plans import Plan
from tests.chaos.stage import Stage, Victim
from tests.chaos.tables import spread, waits
from tests.processes import eventually

CRASHES_AT_ONCE = 5
ROUNDS = 2
REQUEUED_WITHIN_SECONDS = 35.0
POSTS = 120
POST_P99_SECONDS = 0.5
LONG = Plan(steps=6000, save_every=20)
# So small that what is measured is the service, and long enough to be hit five times.
REAL_TRAINING = {
    "target_metrics": ["cpu_percent"],
    "encoder_length": 12,
    "horizon": 4,
    "hidden_size": 8,
    "hidden_continuous_size": 4,
    "attention_head_size": 2,
    "epochs": 60,
    "early_stopping_patience": 0,
    "batch_size": 8,
    "max_train_windows": 128,
    "log_every_n_steps": 1,
}
REAL_FAULTS: tuple[Fault, ...] = tuple(
    fault
    for fault in processes.FAULTS
    if fault.kind in {"trainer killed", "worker killed", "worker and trainer frozen", "worker drained"}
)
REAL_SECONDS = 240.0
EVENT = """
    SELECT min(extract(epoch FROM created_at)) FROM job_events
    WHERE job_id = %s AND type = %s AND extract(epoch FROM created_at) > %s
"""


@dataclass
class Measured:
    """Seconds, by what they were measured from and to; `notes` are what else was seen."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        yield "| from, to | count | median, most, s | bound |"
        yield "|---|---|---|---|"
        for name, values in self.seconds.items():
            bound = f"{self.bounds[name]:g}" if name in self.bounds else ""
            yield f"| {name} | {len(values)} | {spread(values, 2)} | {bound} |"
        yield from self.notes

    def broken(self) -> list[str]:
        return [name for name, bound in self.bounds.items() if max(self.seconds[name]) > bound]


def at_shipped_settings(stage: Stage) -> Measured:
    """Ten crashes, five drains and five cancels; the stage is at SHIPPED and not started yet."""
    measured = Measured()
    stage.start(CRASHES_AT_ONCE)
    for _ in range(CRASHES_AT_ONCE):
        stage.submit(LONG, ends={"cancelled"})
    hits: list[Hit] = []
    for number in range(ROUNDS):
        hits += _crash_all(stage, attempt=number + 1)
    victims = _await_running(stage, attempt=ROUNDS + 1)
    requeued, stepped = waits(stage, hits)
    name = "worker killed, job queued again"
    measured.seconds[name], measured.bounds[name] = requeued, REQUEUED_WITHIN_SECONDS
    measured.seconds["worker killed, next step of its job"] = stepped
    _drain_all(stage, victims, measured)
    stage.heal()
    _cancel_all(stage, _await_running(stage, attempt=ROUNDS + 2), measured)
    return measured


def _await_running(stage: Stage, attempt: int) -> list[Victim]:
    """All the jobs, each with steps behind it in this attempt."""

    def look() -> list[Victim]:
        stepping = "SELECT DISTINCT job_id FROM job_metrics WHERE attempt = %s"
        ids = {job_id for (job_id,) in stage.sql(stepping, attempt)}
        return [one for one in stage.running() if one.attempt == attempt and one.job_id in ids]

    eventually(lambda: len(look()) == CRASHES_AT_ONCE, 120.0)
    return look()


def _crash_all(stage: Stage, attempt: int) -> list[Hit]:
    """One after another, at moments that have nothing to do with heartbeats."""
    hits = []
    for victim in _await_running(stage, attempt):
        stage.let_last(0.0, 1.0)
        hits.append(Hit("worker killed", time.time(), victim.job_id, victim.attempt))
        victim.worker.kill()
    stage.heal()
    return hits


def _drain_all(stage: Stage, victims: list[Victim], measured: Measured) -> None:
    checkpoints, requeues, ends = [], [], []
    for victim in victims:
        asked_at = time.time()
        victim.worker.send(SIGTERM)
        stage.diary.expect(victim.worker.await_end(stage.pace.grace), "a drained worker did not end with 0")
        ends.append(time.time() - asked_at)
        checkpoints.append(_event_after(stage, victim.job_id, "job.checkpoint", asked_at))
        requeues.append(_event_after(stage, victim.job_id, "job.queued", asked_at))
    measured.seconds["SIGTERM to a worker, checkpoint stored"] = checkpoints
    measured.seconds["SIGTERM to a worker, job queued again"] = requeues
    measured.seconds["SIGTERM to a worker, it has ended"] = ends


def _cancel_all(stage: Stage, victims: list[Victim], measured: Measured) -> None:
    asked_at = {}
    for victim in victims:
        stage.let_last(0.0, 1.0)
        asked_at[victim.job_id] = time.time()
        stage.http.post(f"/v1/jobs/{victim.job_id}/cancel").raise_for_status()
    measured.seconds["cancel asked for, job cancelled"] = [
        eventually(lambda: _event_after(stage, job_id, "job.cancelled", since), 60.0)  # noqa: B023
        for job_id, since in asked_at.items()
    ]


def _event_after(stage: Stage, job_id: str, kind: str, since: float) -> float:
    """Seconds; 0 while there is none."""
    [(at,)] = stage.sql(EVENT, job_id, kind, since)
    return 0.0 if at is None else float(at) - since


def without_broker(stage: Stage) -> Measured:
    """Jobs are accepted while the broker refuses connections or swallows what is sent; all run afterwards."""
    measured = Measured()
    wires = [lines.broker for lines in stage.lines.values()]
    for name, break_it in (("refuses", "refuse"), ("is a black hole", "hold")):
        for wire in wires:
            getattr(wire, break_it)()
        durations = sorted(_post_many(stage))
        stage.heal()
        p99 = durations[len(durations) * 99 // 100]
        measured.seconds[f"POST of a job, answer, while the broker {name}"] = durations
        measured.notes.append(f"p99 while the broker {name}: {p99 * 1000:.0f} ms of {POST_P99_SECONDS:g} s")
        stage.diary.expect(p99 < POST_P99_SECONDS, f"a POST took {p99:.2f} s (p99) while the broker {name}")
    return measured


def _post_many(stage: Stage) -> Iterator[float]:
    for _ in range(POSTS):
        plan = Plan(steps=1, step_seconds=0.01, size_bytes=100)
        body = stage.job_body(plan)
        started_at = time.perf_counter()
        answer = stage.http.post("/v1/jobs", json=body)
        yield time.perf_counter() - started_at
        assert answer.status_code == 201, answer.text
        stage.promise(answer.json()["id"], body, plan)


def with_the_real_trainer(stage: Stage) -> Measured:
    """A training that each kind of fault hits once ends with the very weights of one that none did."""
    measured = Measured()
    stage.dismiss_workers(keep=0)
    # A real trainer's imports alone may take longer than the silence that a scripted one is granted.
    patience = {
        "FORETRAIN_CHECKPOINT_SECONDS": "0.2",
        "FORETRAIN_PROGRESS_TIMEOUT_SECONDS": str(REAL_SECONDS),
    }
    for _ in range(2):
        stage.add_worker(is_real=True, OMP_NUM_THREADS="1", **patience).start()
    undisturbed = _submit_real(stage)
    eventually(lambda: stage.status(undisturbed) == "succeeded", REAL_SECONDS)
    disturbed = _submit_real(stage)
    attempt = 0
    for fault in REAL_FAULTS:
        attempt = _await_steps(stage, disturbed, attempt)
        stage.diary.carry_out(fault, stage)
    eventually(lambda: stage.status(disturbed) == "succeeded", REAL_SECONDS)
    digests = [_weights(stage, job_id) for job_id in (undisturbed, disturbed)]
    stage.diary.expect(digests[0] == digests[1], "a disturbed training has other weights than an undisturbed")
    hits = [hit for hit in stage.diary.hits if hit.job_id == disturbed]
    requeued, stepped = waits(stage, hits)
    measured.seconds["real trainer: SIGTERM to its worker, checkpoint stored"] = [
        _event_after(stage, disturbed, "job.checkpoint", hit.at)
        for hit in hits
        if hit.kind == "worker drained"
    ]
    measured.seconds["real trainer: fault, job queued again"] = requeued
    measured.seconds["real trainer: fault, next step of its job"] = stepped
    measured.notes.append(
        f"real trainer: {len(REAL_FAULTS)} faults, "
        f"{'the same' if digests[0] == digests[1] else 'other'} weights as without"
    )
    return measured


def _submit_real(stage: Stage) -> str:
    body = {
        "dataset_id": stage.dataset_id,
        "training": REAL_TRAINING,
        "limits": {"max_attempts": 20},
    }
    answer = stage.http.post("/v1/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job_id = str(answer.json()["id"])
    stage.accepted[job_id] = Promise(job_id, seed=None, steps=0)
    return job_id


def _await_steps(stage: Stage, job_id: str, behind: int) -> int:
    """The first attempt behind that one with a state stored, so that the fault costs less than all."""
    stored = (
        "SELECT min(attempt) FROM artifacts "
        "WHERE job_id = %s AND attempt > %s AND name = 'resume.safetensors'"
    )
    return int(eventually(lambda: stage.sql(stored, job_id, behind)[0][0], REAL_SECONDS))


def _weights(stage: Stage, job_id: str) -> str:
    items = stage.http.get(f"/v1/jobs/{job_id}/artifacts").json()["items"]
    return next(str(item["sha256"]) for item in items if item["name"] == "model.safetensors")
