"""Which faults come in which order: a storm over three workers, then what needs a worker by itself."""

from __future__ import annotations

import random
import subprocess

from tests.chaos.diary import Fault
from tests.chaos.faults import callers, machines, messages, network, outages, owners, processes, releases
from tests.chaos.judge import Judge, Verdict
from tests.chaos.stage import Stage

FAULTS = (
    *processes.FAULTS,
    *messages.FAULTS,
    *outages.FAULTS,
    *network.FAULTS,
    *owners.FAULTS,
    *callers.FAULTS,
    *releases.FAULTS,
    *machines.FAULTS,
)
BY_KIND = {fault.kind: fault for fault in FAULTS}
# These need a worker that nobody else's job keeps busy.
ALONE = {"drain around a claim", "upgraded in part and back", "disk full"}
SMALL_DISK_BYTES = 4 << 20
# Those that are quick and that each take another way through the service.
QUICK = (
    *("trainer killed", "worker killed", "worker drained", "scheduler killed", "broker flushed"),
    *("messages repeated in reverse", "database connections terminated", "connections cut"),
    *("API killed after its answer", "POST repeated at once", "cancelled at any time", "database line held"),
    *("key for another body", "key of another tenant"),
)
WAITING = 6
END_SECONDS = 240.0


def storm(stage: Stage, faults: list[Fault], seed: int) -> None:
    """All of them, in an order that the seed decides, over jobs that never run out."""
    order = [fault for fault in faults for _ in range(fault.times)]
    random.Random(seed).shuffle(order)  # noqa: S311  # for repeating a run, not for secrets
    for number, fault in enumerate(order):
        if stage.diary.is_time_up():
            stage.diary.complaints.append(f"the time was up after {number} of {len(order)} faults")
            break
        _inject(stage, fault, f"{seed} storm {number}")


def _inject(stage: Stage, fault: Fault, seed: str) -> None:
    # Of its own, so that what one fault draws does not depend on how long the one before took.
    stage.rng = random.Random(seed)  # noqa: S311
    if fault.kind not in ALONE:
        stage.populate(WAITING)
    stage.diary.carry_out(fault, stage)


def alone(stage: Stage, faults: list[Fault], seed: int) -> None:
    """One worker, which nothing else keeps busy; then one whose disk is small."""
    for fault in faults:
        stage.diary.expect(stage.await_all(END_SECONDS), "jobs do not come to an end")
        if fault.kind == "disk full":
            _on_a_small_disk(stage, fault, seed)
        else:
            stage.dismiss_workers(keep=1)
            _repeat(stage, fault, seed)


def _repeat(stage: Stage, fault: Fault, seed: int) -> None:
    for number in range(fault.times):
        _inject(stage, fault, f"{seed} {fault.kind} {number}")


def _on_a_small_disk(stage: Stage, fault: Fault, seed: int) -> None:
    disk = stage.folder / "small-disk"
    disk.mkdir()
    try:
        machines.mount_small_disk(disk, SMALL_DISK_BYTES)
    except subprocess.CalledProcessError:
        stage.diary.complaints.append(f"{fault.kind}: only root can mount a small file system")
        return
    stage.dismiss_workers(keep=0)
    worker = stage.add_worker(FORETRAIN_DATA_DIR=str(disk / "data"), FORETRAIN_LEAST_FREE_BYTES="0")
    try:
        worker.start()
        _repeat(stage, fault, seed)
        stage.dismiss_workers(keep=0)
    finally:
        worker.close()
        machines.unmount(disk)


def rule(stage: Stage) -> Verdict:
    """The judge's count, once all jobs have ended or had the time to."""
    stage.heal()
    stage.diary.expect(stage.await_all(END_SECONDS), "jobs do not come to an end")
    return Judge(stage.place, stage.accepted, stage.damaged).rule()
