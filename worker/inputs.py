"""What the trainer finds in its directory: the dataset, how to read and train it, and where to go on."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

import structlog

from core.errors import StorageKeyMissing, StorageUnavailable
from core.jobs.lifecycle import FailureReason, RequeueReason
from trainer.events import Warned
from worker.outcome import JobFailed, JobRequeued

if TYPE_CHECKING:
    from pathlib import Path

    from core.jobs.claim import ClaimedDataset, ClaimedJob, StoredCheckpoint
    from core.storage import ObjectStorage

logger = structlog.get_logger(__name__)

RESUME_STATE = "resume.safetensors"
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def lay_out_inputs(
    storage: ObjectStorage, job: ClaimedJob, directory: Path
) -> list[Warned] | JobFailed | JobRequeued:
    """Fills the run directory; what the job's owner should know, or what a lack means for the job."""
    try:
        _fetch_dataset(storage, job.dataset, directory / f"dataset.{job.dataset.format}")
        (directory / "spec.json").write_text(job.spec.model_dump_json())
        (directory / "schema.json").write_text(job.dataset.schema.model_dump_json())
        (directory / "mapping.json").write_text(job.dataset.mapping.model_dump_json())
        return _fetch_resume_state(storage, job, directory / RESUME_STATE)
    except StorageUnavailable as error:
        return JobRequeued(RequeueReason.STORAGE_UNAVAILABLE, error.detail)
    except StorageKeyMissing:
        return JobFailed(FailureReason.INTERNAL, "The dataset's file is not in the object storage any more.")
    except _DamagedFile:
        return JobFailed(
            FailureReason.INTERNAL, "The stored dataset is not the file that was uploaded; upload it again."
        )
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        return JobFailed(FailureReason.NO_SPACE, "The worker's disk has no room for the job's files.")


class _DamagedFile(Exception):  # never leaves this module
    pass


def _fetch_dataset(storage: ObjectStorage, dataset: ClaimedDataset, path: Path) -> None:
    storage.get_to_file(dataset.storage_key, path)
    _check_digest(path, dataset.sha256)


def _fetch_resume_state(storage: ObjectStorage, job: ClaimedJob, path: Path) -> list[Warned]:
    """The newest that is whole; a warning per newer one that is not. Without any the job starts afresh."""
    warnings = []
    for place, checkpoint in enumerate(job.checkpoints, start=1):
        try:
            storage.get_to_file(checkpoint.storage_key, path)
            _check_digest(path, checkpoint.sha256)
        except (StorageKeyMissing, _DamagedFile) as error:
            path.unlink(missing_ok=True)
            ailment = "missing" if isinstance(error, StorageKeyMissing) else "damaged"
            logger.warning("resume_state_unusable", key=checkpoint.storage_key, ailment=ailment)
            warnings.append(_unusable(checkpoint, ailment, is_last=place == len(job.checkpoints)))
        else:
            logger.info("resume_state_fetched", step=checkpoint.step, of_attempt=checkpoint.attempt)
            break
    return warnings


def _unusable(checkpoint: StoredCheckpoint, ailment: str, *, is_last: bool) -> Warned:
    instead = "training starts from the beginning" if is_last else "an older one is tried"
    message = (
        f"The state of attempt {checkpoint.attempt} at step {checkpoint.step} is {ailment} in the object "
        f"storage; {instead}."
    )
    return Warned(code="resume_failed", message=message)


def _check_digest(path: Path, sha256: str) -> None:
    """Raises _DamagedFile; the digest tells a file cut short as well."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise _DamagedFile
