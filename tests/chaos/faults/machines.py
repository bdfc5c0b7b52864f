"""Machines that are out of memory, out of disk, out of luck, or out of time."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.chaos.clocks import build_shifted_clock, shifted
from tests.chaos.diary import Fault
from tests.chaos.stage import Stage
from tests.processes import eventually

HOUR = 3600


def run_out_of_memory(stage: Stage) -> None:
    """The trainer allocates more than it may; its worker lives."""
    stage.submit(stage.draw_plan(behaviour="memory"), ends={"failed out_of_memory"})


def crash_every_time(stage: Stage) -> None:
    """A job that no trainer survives ends after its attempts, and the queue moves on."""
    plan = stage.draw_plan(behaviour="segfault")
    stage.submit(plan, ends={"failed crash_loop"}, max_attempts=2)


def hang_once(stage: Stage) -> None:
    """A trainer says nothing any more while its worker renews the lease; the next attempt goes well."""
    stage.submit(stage.draw_plan(behaviour="hang once"))


def shift_clock(stage: Stage) -> None:
    """A worker or a scheduler lives an hour in the future or in the past from now on."""
    library = stage.folder / "clock.so"
    if not library.exists():
        build_shifted_clock(stage.folder)
    member = stage.rng.choice([*stage.workers, *stage.schedulers])
    member.kill()
    member.environment |= shifted(library, stage.rng.choice([-HOUR, HOUR]))
    member.start(awaits=False)


def fill_disk(stage: Stage) -> None:
    """The work folder's disk has no room for a checkpoint; once the job is gone there is room for others."""
    [worker] = stage.workers
    accepted = stage.submit(stage.draw_plan(steps=16, size_bytes=3_000_000), ends={"failed no_space"})
    _await_end(stage, accepted.job_id)
    small = stage.submit(stage.draw_plan(steps=8, size_bytes=1_000))
    _await_end(stage, small.job_id)
    stage.diary.expect(worker.is_running(), "the worker did not survive a full disk")


def _await_end(stage: Stage, job_id: str) -> None:
    eventually(lambda: stage.status(job_id) not in {"queued", "running"}, 60.0)


def mount_small_disk(folder: Path, size_bytes: int) -> None:
    """A file system of its own size; only root may. Raises CalledProcessError."""
    options = f"size={size_bytes},mode=700"
    command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def unmount(folder: Path) -> None:
    """Undoes `mount_small_disk`, whoever still looks at it."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)


FAULTS = (
    Fault("trainer out of memory", run_out_of_memory, 5, "F18"),
    Fault("trainer crashes every time", crash_every_time, 5, "F19"),
    Fault("trainer hangs", hang_once, 5, "F20"),
    Fault("clock an hour wrong", shift_clock, 6, "F23"),
    Fault("disk full", fill_disk, 5, "F29"),
)
