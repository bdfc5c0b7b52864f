"""What the trainer finds in its directory: the dataset, and how to read and train it."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING

from core.errors import StorageKeyMissing, StorageUnavailable
from core.jobs.lifecycle import FailureReason, RequeueReason
from worker.outcome import JobFailed, JobRequeued

if TYPE_CHECKING:
    from pathlib import Path

    from core.jobs.claim import ClaimedDataset, ClaimedJob
    from core.storage import ObjectStorage

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def lay_out_inputs(
    storage: ObjectStorage, job: ClaimedJob, directory: Path
) -> JobFailed | JobRequeued | None:
    """Fills the run directory; None when all is there, else what its lack means for the job."""
    try:
        _fetch_dataset(storage, job.dataset, directory / f"dataset.{job.dataset.format}")
        (directory / "spec.json").write_text(job.spec.model_dump_json())
        (directory / "schema.json").write_text(job.dataset.schema.model_dump_json())
        (directory / "mapping.json").write_text(job.dataset.mapping.model_dump_json())
    except StorageUnavailable as error:
        return JobRequeued(RequeueReason.STORAGE_UNAVAILABLE, error.detail)
    except StorageKeyMissing:
        return JobFailed(FailureReason.INTERNAL, "The dataset's file is not in the object storage any more.")
    except _DamagedDataset:
        return JobFailed(
            FailureReason.INTERNAL, "The stored dataset is not the file that was uploaded; upload it again."
        )
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        return JobFailed(FailureReason.NO_SPACE, "The worker's disk has no room for the dataset.")
    return None


class _DamagedDataset(Exception):  # never leaves this module
    pass


def _fetch_dataset(storage: ObjectStorage, dataset: ClaimedDataset, path: Path) -> None:
    storage.get_to_file(dataset.storage_key, path)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != dataset.sha256:
            raise _DamagedDataset
