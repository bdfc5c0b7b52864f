"""SQL on what a run produces by the second: metrics and log chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.database import clean_text, insert_or
from core.jobs.schemas import MetricReport
from core.tables import Job, JobLogChunk, JobMetric

ROWS_AT_ONCE = 500
# An attempt's log keeps its head, where it says what it is, and its tail, where it says why it died.
CHUNK_CHARACTERS = 32 * 1024
LOG_HEAD_BYTES = 256 * 1024
LOG_TOTAL_BYTES = 1024 * 1024


def write_metrics(session: Session, job: Job, reports: Sequence[MetricReport]) -> None:
    """Adds or overwrites by (job, attempt, name, step); the job's row is locked."""
    newest = {
        (name, report.step): {
            "job_id": job.id,
            "attempt": job.attempt,
            "name": name,
            "step": report.step,
            "epoch": report.epoch,
            "value": value if value is not None and math.isfinite(value) else None,
        }
        for report in reports
        for name, value in report.values.items()
    }
    rows = list(newest.values())
    job.metric_writes += 1
    for start in range(0, len(rows), ROWS_AT_ONCE):
        statement = insert_or(session, JobMetric).values(rows[start : start + ROWS_AT_ONCE])
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[JobMetric.job_id, JobMetric.name, JobMetric.step, JobMetric.attempt],
                set_={"value": statement.excluded.value, "epoch": statement.excluded.epoch},
            )
        )


def write_log_chunk(session: Session, job: Job, text: str) -> None:
    """Appends, then drops the oldest chunks behind the head while the whole is above LOG_TOTAL_BYTES."""
    ours = (JobLogChunk.job_id == job.id, JobLogChunk.attempt == job.attempt)
    seq = session.scalar(select(func.coalesce(func.max(JobLogChunk.seq), 0)).where(*ours)) or 0
    for piece in _pieces(text):
        seq += 1
        session.add(
            JobLogChunk(
                job_id=job.id, attempt=job.attempt, seq=seq, size_bytes=len(piece.encode()), text=piece
            )
        )
    session.flush()
    sizes = session.execute(
        select(JobLogChunk.seq, JobLogChunk.size_bytes).where(*ours).order_by(JobLogChunk.seq)
    ).all()
    dropped = _middle([(row.seq, row.size_bytes) for row in sizes])
    if dropped:
        session.execute(delete(JobLogChunk).where(*ours, JobLogChunk.seq.in_(dropped)))


def _pieces(text: str) -> Iterator[str]:
    clean = clean_text(text)
    for start in range(0, len(clean), CHUNK_CHARACTERS):
        yield clean[start : start + CHUNK_CHARACTERS]


def _middle(chunks: Sequence[tuple[int, int]]) -> list[int]:
    """Which chunks (seq, bytes) to drop."""
    excess = sum(size for _, size in chunks) - LOG_TOTAL_BYTES
    dropped, seen = [], 0
    for seq, size in chunks:
        seen += size
        if excess <= 0:
            break
        if seen > LOG_HEAD_BYTES:
            dropped.append(seq)
            excess -= size
    return dropped
