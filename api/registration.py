"""Makes a dataset of stored bytes, once, however often they are sent."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.audit_trail import AuditTrail
from api.problems import HttpProblem
from api.resources import Resources
from api.uploads import drop_upload
from core import idempotency
from core.datasets import service
from core.datasets.service import UploadTicket
from core.errors import NotFound
from core.storage import StoredObject
from core.tables import Dataset
from trainer.dataset.schema import DatasetFormat, DatasetMapping


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """All that is known of an upload once its bytes are stored."""

    ticket: UploadTicket
    stored: StoredObject
    name: str | None
    data_format: DatasetFormat
    mapping: DatasetMapping
    idempotency_key: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Registered:
    """The dataset; whether this upload made it; whether its Idempotency-Key did so before."""

    dataset: Dataset
    is_new: bool
    is_replay: bool


def upload_fingerprint(request: Request, sha256: str) -> str:
    """What an upload's Idempotency-Key stands for: these bytes, read this way."""
    target = f"{request.url.path}?{request.url.query}"
    return idempotency.fingerprint(request.method, target, sha256.encode("ascii"))


async def register(resources: Resources, upload: StoredUpload, trail: AuditTrail) -> Registered:
    """The new dataset, or the one that the same bytes or the same Idempotency-Key made; no bytes stay twice.

    Raises HttpProblem (408) for an upload that was given up meanwhile, IdempotencyMismatch, InvalidRequest.
    """
    try:
        registered = await run_in_threadpool(_register_in_one_transaction, resources, upload, trail)
    # Not for a cancellation: the thread may commit all the same, and the scheduler minds what it leaves.
    except Exception:
        await drop_upload(resources, upload.ticket)
        raise
    if not registered.is_new:
        await drop_upload(resources, upload.ticket)
    return registered


def _register_in_one_transaction(resources: Resources, upload: StoredUpload, trail: AuditTrail) -> Registered:
    with resources.db.sessions.begin() as session:
        earlier = _replayed(session, resources, upload)
        if earlier is not None:
            return Registered(earlier, is_new=False, is_replay=True)
        try:
            dataset, is_new = service.register_upload(
                session,
                upload.ticket,
                upload.stored,
                name=upload.name,
                data_format=upload.data_format,
                mapping=upload.mapping,
                max_bytes=resources.settings.max_dataset_bytes,
            )
        except NotFound as error:
            raise HttpProblem("body_timeout", error.detail) from error
        if is_new:
            trail.note(session, dataset.id)
        if upload.idempotency_key is not None:
            answer = {"dataset_id": dataset.id}
            idempotency.store_answer(session, upload.ticket.tenant_id, upload.idempotency_key, answer)
        return Registered(dataset, is_new, is_replay=False)


def _replayed(session: Session, resources: Resources, upload: StoredUpload) -> Dataset | None:
    """The dataset this Idempotency-Key made before, unless it is gone: then it may be made anew."""
    if upload.idempotency_key is None:
        return None
    tenant_id, keep_hours = upload.ticket.tenant_id, resources.settings.idempotency_hours
    answer = idempotency.replay_or_reserve(
        session, tenant_id, upload.idempotency_key, upload.fingerprint, keep_hours
    )
    try:
        return None if answer is None else service.get(session, tenant_id, answer["dataset_id"])
    except NotFound:
        return None


def made_before(resources: Resources, tenant_id: str, key: str, fingerprint: str) -> Dataset | None:
    """The dataset this Idempotency-Key made, if it is still there. Raises IdempotencyMismatch."""
    with resources.db.readers.begin() as session:
        answer = idempotency.find_answer(session, tenant_id, key, fingerprint)
        try:
            return service.get(session, tenant_id, answer["dataset_id"]) if answer else None
        except NotFound:
            return None


def forget_key(resources: Resources, upload: StoredUpload) -> None:
    """Frees the Idempotency-Key of an upload that was refused: nothing of such a request is kept."""
    if upload.idempotency_key is not None:
        with resources.db.sessions.begin() as session:
            idempotency.forget(session, upload.ticket.tenant_id, upload.idempotency_key)
