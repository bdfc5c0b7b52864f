"""A dataset's life: upload, inspection, ready or rejected, deletion."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy.orm import Session

from core.access.repository import lock_tenant
from core.database import db_now, dump_json, later
from core.datasets import repository
from core.datasets.lifecycle import MAX_INSPECTIONS, DatasetStatus
from core.datasets.schemas import DatasetRead
from core.errors import InspectionLost, InUse, NotFound, QuotaExceeded
from core.ids import new_id
from core.pages import DEFAULT_LIMIT, Page, cut_page, newest_first_key
from core.storage import StoredObject, dataset_key
from core.tables import Dataset
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem, DatasetSchema

# Between the row's commit and the start of its inspection by the same process.
FIRST_LEASE_SECONDS = 30.0


@dataclass(frozen=True)
class UploadTicket:
    """Where an upload's bytes go. The id is the dataset's id to be."""

    dataset_id: str
    tenant_id: str
    storage_key: str


@dataclass(frozen=True)
class Inspection:
    """One run of the inspection; `attempt` fences its result."""

    dataset_id: str
    attempt: int
    storage_key: str
    format: DatasetFormat
    mapping: DatasetMapping


def begin_upload(
    session: Session,
    tenant_id: str,
    data_format: DatasetFormat,
    expires_seconds: float,
    max_bytes: int | None = None,
) -> UploadTicket:
    """Notes an upload before its first byte, so that one that never finishes is found and removed.

    Raises QuotaExceeded where the tenant's datasets have `max_bytes` already.
    """
    if max_bytes is not None and repository.stored_bytes(session, tenant_id) >= max_bytes:
        raise _quota_exceeded(max_bytes)
    dataset_id = new_id("ds")
    ticket = UploadTicket(dataset_id, tenant_id, dataset_key(tenant_id, dataset_id, data_format))
    repository.add_upload(
        session,
        dataset_id=dataset_id,
        tenant_id=tenant_id,
        storage_key=ticket.storage_key,
        expires_seconds=expires_seconds,
    )
    return ticket


def abandon_upload(session: Session, ticket: UploadTicket) -> None:
    """Forgets an upload that failed; its object, if any, must be gone already."""
    repository.remove_upload(session, ticket.dataset_id)


def register_upload(
    session: Session,
    ticket: UploadTicket,
    stored: StoredObject,
    *,
    name: str | None,
    data_format: DatasetFormat,
    mapping: DatasetMapping,
    max_bytes: int | None = None,
) -> tuple[Dataset, bool]:
    """The dataset of stored bytes and True; or the tenant's own with the same sha256 and mapping and False.

    After False and the commit, the caller deletes the object at `ticket.storage_key`: nothing points to it.
    After True it inspects the dataset within FIRST_LEASE_SECONDS, or the scheduler does. Raises NotFound for
    an upload that took so long that it was given up, QuotaExceeded where the tenant's datasets come to more
    than `max_bytes` with it: then, too, the caller deletes the object.
    """
    if max_bytes is not None:
        lock_tenant(session, ticket.tenant_id)
    if not repository.take_upload(session, ticket.dataset_id):
        raise NotFound("The upload took too long and was given up; send the file again.")
    reading = mapping.model_dump(mode="json")
    row = {
        "id": ticket.dataset_id,
        "tenant_id": ticket.tenant_id,
        "name": name,
        "status": DatasetStatus.INSPECTING,
        "format": data_format,
        "mapping": reading,
        "reading_sha256": hashlib.sha256(dump_json([data_format, reading]).encode()).hexdigest(),
        "sha256": stored.sha256,
        "size_bytes": stored.size_bytes,
        "storage_key": ticket.storage_key,
        "inspection_attempt": 0,
        "inspection_lease_until": later(db_now(), FIRST_LEASE_SECONDS),
    }
    dataset, is_new = repository.add_or_find(session, row)
    if is_new and max_bytes is not None and repository.stored_bytes(session, ticket.tenant_id) > max_bytes:
        raise _quota_exceeded(max_bytes)
    return dataset, is_new


def _quota_exceeded(max_bytes: int) -> QuotaExceeded:
    return QuotaExceeded(
        f"The tenant's datasets may come to {max_bytes} bytes together; delete some that no job needs."
    )


def begin_inspection(session: Session, dataset_id: str, lease_seconds: float) -> Inspection | None:
    """Takes the inspection up; None where it is over or somebody else holds its lease.

    A dataset whose inspections were lost twice is rejected with `inspection_failed` instead: None, too.
    Raises ValidationError for a mapping that a later release wrote otherwise than this one can read.
    """
    taken = repository.take_inspection(session, dataset_id, lease_seconds)
    if taken is None:
        return None
    if taken.inspections_left < 0:
        _reject(session, taken.id, taken.inspection_attempt, _gave_up())
        return None
    return Inspection(
        dataset_id=taken.id,
        attempt=taken.inspection_attempt,
        storage_key=taken.storage_key,
        format=cast("DatasetFormat", taken.format),
        mapping=DatasetMapping.model_validate(taken.mapping),
    )


def _gave_up() -> DatasetProblem:
    detail = (
        f"The inspection of this file broke off {MAX_INSPECTIONS} times; check it, or upload a part of it."
    )
    return DatasetProblem(code="inspection_failed", detail=detail)


def _reject(session: Session, dataset_id: str, attempt: int, problem: DatasetProblem) -> Dataset | None:
    return repository.end_inspection(
        session, dataset_id, attempt, DatasetStatus.REJECTED, problem=problem.model_dump(mode="json")
    )


def renew_inspection(session: Session, inspection: Inspection, lease_seconds: float) -> None:
    """Raises InspectionLost."""
    _held(repository.renew_inspection(session, inspection.dataset_id, inspection.attempt, lease_seconds))


def release_inspection(session: Session, inspection: Inspection) -> None:
    """Gives it back because this process stops; the scheduler takes it up, and the attempt counts nowhere."""
    repository.release_inspection(session, inspection.dataset_id, inspection.attempt)


def finish_inspection(
    session: Session, inspection: Inspection, outcome: DatasetSchema | DatasetProblem
) -> Dataset:
    """Makes the dataset ready or rejected. Raises InspectionLost where a newer attempt has taken over."""
    if isinstance(outcome, DatasetProblem):
        return _held(_reject(session, inspection.dataset_id, inspection.attempt, outcome))
    schema = outcome.model_dump(mode="json")
    return _held(
        repository.end_inspection(
            session, inspection.dataset_id, inspection.attempt, DatasetStatus.READY, schema=schema
        )
    )


def _held(dataset: Dataset | None) -> Dataset:
    if dataset is None:
        raise InspectionLost("The inspection is not this run's any more.")
    return dataset


def discard_rejected(session: Session, tenant_id: str, dataset_id: str) -> str | None:
    """Removes a rejected dataset whose uploader is told at once; the storage key to delete after the commit.

    None where there is no rejected dataset of this id.
    """
    return repository.remove_rejected(session, tenant_id, dataset_id)


def get(session: Session, tenant_id: str, dataset_id: str) -> Dataset:
    """Raises NotFound."""
    return _there(repository.find(session, tenant_id, dataset_id), dataset_id)


def _there(dataset: Dataset | None, dataset_id: str) -> Dataset:
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset


def list_page(
    session: Session, tenant_id: str, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[DatasetRead]:
    """Newest first. Raises InvalidRequest for a bad cursor."""
    rows = repository.page(session, tenant_id, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, repository.PAGE_ORDER, newest_first_key)
    return Page(items=[DatasetRead.from_row(row) for row in shown], next_cursor=next_cursor)


def delete(session: Session, tenant_id: str, dataset_id: str) -> str:
    """Hides the dataset for good; returns its storage key.

    Its bytes may be deleted after the commit; the scheduler does it otherwise. Raises NotFound, and InUse
    while a job that has not ended needs it.
    """
    dataset = _there(repository.lock(session, tenant_id, dataset_id), dataset_id)
    if repository.is_in_use(session, dataset_id):
        raise InUse("A job that has not ended needs this dataset; cancel it or wait for its end.")
    repository.hide(session, dataset_id)
    return dataset.storage_key


def lost_inspections(session: Session, passed_over: Collection[str] = (), limit: int = 10) -> Sequence[str]:
    """Ids of datasets whose inspection broke off, the longest ago first; never one of `passed_over`."""
    return repository.lost_inspections(session, limit, passed_over)
