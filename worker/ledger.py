"""All that an attempt writes where others read it. Each write names the token, and fails with an old one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from core.errors import StorageKeyExists, StorageUnavailable
from core.jobs import service as jobs
from core.jobs.schemas import MetricReport
from core.storage import artifact_key
from trainer.events import CheckpointSaved, MetricsReported, PhaseStarted, Resolved, Warned
from worker.outcome import JobCancelled, JobFailed, JobPaused, JobRequeued, JobSucceeded

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from core.database import Database
    from core.jobs.claim import ClaimedJob, RegisteredArtifact, Wishes
    from core.storage import ObjectStorage, StoredObject
    from trainer.events import ProgressReported, TrainerEvent
    from worker.outcome import Outcome
    from worker.uploader import Upload

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ledger:
    """One attempt's pen. Every method raises LeaseLost once the job belongs to somebody else."""

    db: Database
    storage: ObjectStorage
    job: ClaimedJob
    lease_seconds: float

    def renew(self, progress: ProgressReported | None) -> Wishes:
        with self.db.sessions.begin() as session:
            return jobs.renew_lease(session, self.job.job_id, self.job.token, self.lease_seconds, progress)

    def record(self, events: list[TrainerEvent], log: str) -> None:
        """All of it in one transaction."""
        with self.db.sessions.begin() as session:
            for event in events:
                self._record_event(session, event)
            if metrics := [event for event in events if isinstance(event, MetricsReported)]:
                reports = [MetricReport(step=m.step, epoch=m.epoch, values=m.values) for m in metrics]
                jobs.record_metrics(session, self.job.job_id, self.job.token, reports)
            if log:
                jobs.record_log_chunk(session, self.job.job_id, self.job.token, log)

    def _record_event(self, session: Session, event: TrainerEvent) -> None:
        job_id, token = self.job.job_id, self.job.token
        match event:
            case PhaseStarted():
                jobs.record_phase(session, job_id, token, event.phase)
            case Resolved():
                jobs.record_resolved(session, job_id, token, event)
            case Warned():
                jobs.record_warning(session, job_id, token, event.code, event.message)
            case _:
                pass

    def store(self, upload: Upload) -> StoredObject:
        """Puts the bytes under a key that no other attempt and no other version has."""
        key = self._key(upload)
        try:
            return self.storage.put_file(key, upload.path)
        except StorageKeyExists:
            # An earlier try of ours whose answer was lost: nothing points to it yet, and it may be cut short.
            self.storage.delete(key)
            return self.storage.put_file(key, upload.path)

    def publish(self, upload: Upload, stored: StoredObject) -> None:
        """Writes the row that makes the stored bytes an artifact, then removes those it pointed to before."""
        with self.db.sessions.begin() as session:
            registered = self._register(session, upload, stored)
        if registered.replaced_key not in {None, self._key(upload)}:
            self._delete_replaced(registered)

    def _register(self, session: Session, upload: Upload, stored: StoredObject) -> RegisteredArtifact:
        event, key = upload.event, self._key(upload)
        if isinstance(event, CheckpointSaved):
            return jobs.register_checkpoint(
                session,
                self.job.job_id,
                self.job.token,
                name=event.name,
                key=key,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                step=event.step,
                epoch=event.epoch,
                val_loss=event.val_loss,
            )
        return jobs.register_artifact(
            session,
            self.job.job_id,
            self.job.token,
            name=event.name,
            key=key,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            media_type=event.media_type,
        )

    def _delete_replaced(self, registered: RegisteredArtifact) -> None:
        try:
            self.storage.delete(registered.replaced_key or "")
        except StorageUnavailable:
            logger.warning("replaced_object_left", key=registered.replaced_key)

    def _key(self, upload: Upload) -> str:
        step = upload.event.step if isinstance(upload.event, CheckpointSaved) else None
        # Two checkpoints of one step exist: the last of an epoch, and the last of the run.
        name = f"{upload.serial:03d}-{upload.event.name}"
        return artifact_key(self.job.tenant_id, self.job.job_id, self.job.attempt, self.job.token, name, step)

    def close(self, outcome: Outcome) -> None:
        """The end of the attempt."""
        job_id, token = self.job.job_id, self.job.token
        with self.db.sessions.begin() as session:
            match outcome:
                case JobSucceeded():
                    jobs.finish(session, job_id, token, outcome.stop_reason, outcome.summary)
                case JobFailed():
                    jobs.fail(session, job_id, token, outcome.code, outcome.message)
                case JobCancelled():
                    jobs.cancelled(session, job_id, token)
                case JobPaused():
                    jobs.paused(session, job_id, token)
                case JobRequeued():
                    jobs.requeue(session, job_id, token, outcome.reason, outcome.message)
