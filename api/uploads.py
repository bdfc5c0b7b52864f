"""Streams an upload into object storage, a piece at a time, and leaves nothing of one that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.bodies import receive_body
from api.resources import Resources
from api.slots import Slot
from api.strict_json import JsonTroubleError, parse_json
from api.upload_format import refuse_signature
from api.validation_problems import explain, summary
from core.datasets import service
from core.datasets.service import UploadTicket
from core.errors import FieldProblem, InvalidRequest, ServiceError, UnusableDataset
from core.storage import StoredObject
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetProblem

# A client that sends next to nothing and waits costs no row and no object.
FIRST_BYTES = 32 * 1024
log = structlog.get_logger(__name__)


async def store_body(
    request: Request, resources: Resources, slot: Slot, tenant_id: str, data_format: DatasetFormat
) -> tuple[UploadTicket, StoredObject]:
    """The request's body, stored. No session and no thread is held while it arrives.

    Raises what `receive_body` raises, and UnsupportedMedia for a file no dataset can be; then row and
    object are gone again.
    """
    pieces = receive_body(
        request,
        max_bytes=resources.settings.max_upload_bytes,
        idle_seconds=resources.settings.body_idle_seconds,
        slot=slot,
    )
    return await store_pieces(pieces, resources, tenant_id, data_format)


async def store_pieces(
    pieces: AsyncIterator[bytes], resources: Resources, tenant_id: str, data_format: DatasetFormat
) -> tuple[UploadTicket, StoredObject]:
    """A file that comes in pieces, stored, or nothing of it: as `store_body`, raising what `pieces` raise."""
    # Nothing is noted anywhere before the first bytes have shown that the upload is worth it.
    first = await _first_bytes(pieces)
    if not first:
        raise UnusableDataset(DatasetProblem(code="empty_file", detail="The body is empty; send the file."))
    refuse_signature(first)
    ticket = await run_in_threadpool(_begin, resources, tenant_id, data_format)
    try:
        stored = await resources.storage.put_stream_async(
            ticket.storage_key, _joined(first, pieces), resources.settings.max_upload_bytes
        )
    except BaseException:
        await drop_upload(resources, ticket)
        raise
    return ticket, stored


async def _first_bytes(pieces: AsyncIterator[bytes]) -> bytes:
    first = b""
    async for piece in pieces:
        first += piece
        if len(first) >= FIRST_BYTES:
            break
    return first


async def _joined(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece


def _begin(resources: Resources, tenant_id: str, data_format: DatasetFormat) -> UploadTicket:
    with resources.db.sessions.begin() as session:
        return service.begin_upload(
            session,
            tenant_id,
            data_format,
            resources.settings.upload_expiry_seconds,
            resources.settings.max_dataset_bytes,
        )


async def drop_upload(resources: Resources, ticket: UploadTicket) -> None:
    """Removes an upload's bytes and note; what cannot be removed now, the scheduler removes later."""
    with anyio.CancelScope(shield=True):
        await run_in_threadpool(_drop, resources, ticket)


def _drop(resources: Resources, ticket: UploadTicket) -> None:
    try:
        resources.storage.delete(ticket.storage_key)
        with resources.db.sessions.begin() as session:
            service.abandon_upload(session, ticket)
    except (ServiceError, SQLAlchemyError) as error:
        log.warning("upload left for the scheduler", dataset_id=ticket.dataset_id, error=type(error).__name__)


def parse_mapping(text: str | None) -> DatasetMapping:
    """`?mapping=`, strict JSON. Raises InvalidRequest with pointers below /query/mapping."""
    if text is None:
        return DatasetMapping()
    try:
        return DatasetMapping.model_validate(parse_json(text.encode("utf-8", "surrogatepass")))
    except JsonTroubleError as trouble:
        errors = [FieldProblem(trouble.code, trouble.detail, f"/query/mapping{trouble.pointer}")]
        raise InvalidRequest(f"mapping: {trouble.detail}", errors) from trouble
    except ValidationError as error:
        located = [{**finding, "loc": ("body", *finding["loc"])} for finding in error.errors()]
        found = explain(located, DatasetMapping)
        errors = [replace(problem, pointer=f"/query/mapping{problem.pointer}") for problem in found]
        raise InvalidRequest(summary(errors), errors) from error
