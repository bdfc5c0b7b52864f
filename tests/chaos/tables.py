"""What is printed at the end of a run, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.chaos.diary import Diary, Fault, Hit
from tests.chaos.judge import Verdict
from tests.chaos.stage import Stage

# When a lost run's job was queued again, when the next run began, and when that one made a step.
AFTERWARDS = """
    SELECT (SELECT min(extract(epoch FROM created_at)) FROM job_events
             WHERE job_id = %s AND type = 'job.queued' AND extract(epoch FROM created_at) > %s),
           (SELECT min(extract(epoch FROM created_at)) FROM job_metrics
             WHERE job_id = %s AND attempt = %s)
"""


def fault_table(faults: Iterable[Fault], stage: Stage) -> str:
    return "\n".join(_fault_rows(faults, stage))


def _fault_rows(faults: Iterable[Fault], stage: Stage) -> Iterator[str]:
    diary = stage.diary
    if not diary.injected:
        return
    yield ""
    yield "| fault | cases | injected | requeued after, s (median, most) | next step, s (median, most) |"
    yield "|---|---|---|---|---|"
    for fault in faults:
        if diary.injected[fault.kind]:
            hits = [hit for hit in diary.hits if hit.kind == fault.kind]
            requeued, stepped = waits(stage, hits)
            spans = f"{spread(requeued)} | {spread(stepped)}"
            yield f"| {fault.kind} | {fault.cases} | {diary.injected[fault.kind]} | {spans} |"
    yield f"| all | | {diary.injected.total()} | | |"


def waits(stage: Stage, hits: Iterable[Hit]) -> tuple[list[float], list[float]]:
    """Seconds from each hit to the requeue of its job, and to the first step of the run after it."""
    requeued, stepped = [], []
    for hit in hits:
        [(queued_at, step_at)] = stage.sql(AFTERWARDS, hit.job_id, hit.at, hit.job_id, hit.attempt + 1)
        if queued_at is not None:
            requeued.append(float(queued_at) - hit.at)
        if step_at is not None:
            stepped.append(float(step_at) - hit.at)
    return requeued, stepped


def spread(values: list[float], digits: int = 1) -> str:
    if not values:
        return ""
    ranked = sorted(values)
    return f"{ranked[len(ranked) // 2]:.{digits}f}, {ranked[-1]:.{digits}f}"


def verdict_table(verdict: Verdict, diary: Diary) -> str:
    complaints = [f"broken on the spot: {len(diary.complaints)}", *(f"    {one}" for one in diary.complaints)]
    return "\n".join(["", *verdict.lines(), *complaints])
