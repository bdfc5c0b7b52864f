"""Errors a caller can act on: a stable code and a sentence. No HTTP in here; `api` knows the statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from trainer.dataset.schema import DatasetProblem


@dataclass(frozen=True)
class FieldProblem:
    """One thing that is wrong, at a place: a column and row of a file, or a pointer into the request.

    A pointer is a JSON pointer into the body; what lies beside it starts with /query or /header.
    """

    code: str
    detail: str
    pointer: str | None = None
    column: str | None = None
    row: int | None = None


class ServiceError(Exception):
    """Base of everything the service says no with. `retryable`: the same request may succeed later."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, errors: Sequence[FieldProblem] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)


class NotFound(ServiceError):
    """Not there, or another tenant's: the two read the same."""

    code = "not_found"


class ArtifactNotFound(NotFound):
    code = "artifact_not_found"


class Conflict(ServiceError):
    code = "conflict"


class InvalidTransition(Conflict):
    """The verb does not fit the job's status; `allowed` names those that do."""

    code = "invalid_transition"

    def __init__(self, detail: str, allowed: Sequence[str]) -> None:
        super().__init__(detail)
        self.allowed = tuple(allowed)


class StaleRevision(Conflict):
    """The job has changed since it was read."""

    code = "stale_revision"


class InUse(Conflict):
    code = "in_use"


class DatasetNotReady(Conflict):
    """The dataset is still inspecting (try again) or was rejected (upload another)."""

    code = "dataset_not_ready"
    retryable = True


class InvalidRequest(ServiceError):
    """A parameter beside the training spec: a cursor, a filter, a scope."""

    code = "invalid_request"


class InvalidSpec(ServiceError):
    """The training spec does not fit the dataset; `errors` carry the pointers."""

    code = "invalid_spec"


class UnusableDataset(ServiceError):
    """Inspection refused the file."""

    code = "invalid_dataset"

    def __init__(self, problem: DatasetProblem) -> None:
        # A JSON pointer that is empty points at the whole: where no column and no row is to blame.
        whole = "" if problem.column is None and problem.row is None else None
        place = FieldProblem(problem.code, problem.detail, whole, problem.column, problem.row)
        super().__init__(problem.detail, [place])
        self.problem = problem


class IdempotencyMismatch(ServiceError):
    code = "idempotency_mismatch"


class SecretShownOnce(Conflict):
    """The request made a key before, whose secret only its first answer held."""

    code = "secret_shown_once"


class Unauthenticated(ServiceError):
    code = "unauthenticated"


class Forbidden(ServiceError):
    code = "forbidden"


class TooLarge(ServiceError):
    code = "too_large"


class UnsupportedMedia(ServiceError):
    code = "unsupported_media_type"


class NotSupported(ServiceError):
    """Part of the contract that is not built yet."""

    code = "not_supported"


class SourceNotAllowed(ServiceError):
    """A server that datasets may not be pulled from, by its address in the request or in the network."""

    code = "source_not_allowed"


class SourceFailed(ServiceError):
    """A server that a dataset is pulled from did not answer as it should."""

    code = "source_failed"
    retryable = True


class QuotaExceeded(ServiceError):
    code = "quota_exceeded"
    retryable = True


class StorageUnavailable(ServiceError):
    """The object storage did not answer, or refused our credentials."""

    code = "storage_unavailable"
    retryable = True


class StorageKeyMissing(ServiceError):
    """No object under this key. Callers that speak to customers turn it into their own NotFound."""

    code = "storage_key_missing"


class StorageKeyExists(ServiceError):
    """Put-if-absent found the key taken; what lies there is untouched."""

    code = "storage_key_exists"


class LeaseLost(ServiceError):
    """No row matches (job, token) any more: somebody else owns the job. Stop, and write nothing."""

    code = "lease_lost"


class InspectionLost(ServiceError):
    """The same for a dataset's inspection."""

    code = "inspection_lost"
