"""Uploading tables of server metrics, and what inspection found in them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import structlog
from fastapi import Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.audit_trail import AuditTrail
from api.dependencies import (
    Cursor,
    DatasetId,
    DatasetsReader,
    DatasetsWriter,
    IdempotencyKey,
    Limit,
    Service,
    Trail,
)
from api.openapi import BINARY, answers, header, json_answer, json_content
from api.registration import Registered, StoredUpload, forget_key, made_before, register, upload_fingerprint
from api.resources import Resources
from api.strict_route import strict_router
from api.upload_format import CONTENT_TYPES, choose_format
from api.uploads import parse_mapping, store_body, store_pieces
from core import idempotency
from core.datasets import service
from core.datasets.lifecycle import DatasetStatus
from core.datasets.schemas import DatasetPull, DatasetRead
from core.datasets.sources import find_source, pull
from core.errors import (
    DatasetNotReady,
    ServiceError,
    StorageUnavailable,
    UnsupportedMedia,
    UnusableDataset,
)
from core.jobs.schemas import DisplayName
from core.pages import DEFAULT_LIMIT, Page
from core.stored import read_stored
from core.tables import Dataset
from trainer.dataset.schema import DatasetProblem, DatasetSchema, Finding

log = structlog.get_logger(__name__)
router = strict_router("datasets")


class DatasetPage(Page[DatasetRead]):
    """One page of datasets, newest first."""


class DatasetReport(BaseModel):
    """What is odd about the data: each kind counted over all series, with its first examples."""

    dataset_id: str
    row_count: int
    series_count: int
    findings: list[Finding]


_THERE_ALREADY = json_answer(
    "The same bytes, read the same way, are there already.",
    "dataset",
    model=DatasetRead,
    headers={"Location": header("Path of the dataset.")},
)
_STORED = json_answer(
    "Stored. `status` is `inspecting` when inspection takes long: poll the dataset.",
    "dataset",
    headers={
        "Location": header("Path of the dataset."),
        "Idempotency-Replayed": header("`true` when this key has made the dataset before."),
    },
)


@router.post(
    "/v1/datasets",
    status_code=201,
    response_model=DatasetRead,
    operation_id="upload_dataset",
    summary="Upload a dataset",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "The file itself, not a form.",
            "content": dict.fromkeys((*CONTENT_TYPES, "application/octet-stream"), BINARY),
        }
    },
    responses=answers(
        "body_timeout",
        "idempotency_mismatch",
        "incomplete_body",
        "invalid_dataset",
        "overloaded",
        "quota_exceeded",
        "storage_unavailable",
        "too_large",
        "unsupported_media_type",
        ok_200=_THERE_ALREADY,
        ok_201=_STORED,
    ),
)
async def upload_dataset(
    *,
    request: Request,
    caller: DatasetsWriter,
    resources: Service,
    trail: Trail,
    name: Annotated[DisplayName | None, Query(description="For people; need not be unique.")] = None,
    data_format: Annotated[
        str | None,
        Query(
            alias="format",
            description="`csv`, `csv.gz`, `parquet`, `ndjson`, `prometheus` (what query_range answers), "
            "`victoriametrics` (lines of its export) or `influx` (line protocol). Default: by Content-Type.",
        ),
    ] = None,
    mapping: Annotated[
        str | None,
        Query(
            max_length=16_000,
            description="How to read the file, as JSON (DatasetMapping); what is left out is detected.",
            examples=['{"time_column":"ts","group_columns":["server"],"frequency":"5min"}'],
        ),
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The body is the file. It is stored as it arrives, then inspected: its columns, clock and series.

    A file that cannot be used is refused with the column and row where that shows, and nothing of it is kept.
    """
    headers = request.headers
    chosen = choose_format(data_format, headers.get("content-type"), headers.get("content-encoding"))
    reading = parse_mapping(mapping)
    with resources.transfers.taken() as slot:
        ticket, stored = await store_body(request, resources, slot, caller.tenant_id, chosen)
        fingerprint = upload_fingerprint(request, stored.sha256)
        upload = StoredUpload(ticket, stored, name, chosen, reading, idempotency_key, fingerprint)
        return await _registered(resources, upload, trail)


@router.post(
    "/v1/datasets/pull",
    status_code=201,
    response_model=DatasetRead,
    operation_id="pull_dataset",
    summary="Pull a dataset from Prometheus",
    openapi_extra={"requestBody": {"content": json_content("dataset_pull")}},
    responses=answers(
        "idempotency_mismatch",
        "invalid_dataset",
        "invalid_json",
        "overloaded",
        "quota_exceeded",
        "source_failed",
        "source_not_allowed",
        "storage_unavailable",
        "too_large",
        "unsupported_media_type",
        ok_200=_THERE_ALREADY,
        ok_201=_STORED,
    ),
)
async def pull_dataset(
    *,
    request: Request,
    caller: DatasetsWriter,
    resources: Service,
    trail: Trail,
    body: DatasetPull,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Asks a Prometheus server, one that the operator allows, for a range, and keeps what it answers.

    The dataset is those samples for good: a later pull of the same range is the same dataset if the server
    still answers the same, and another one if not.
    """
    source = find_source(resources.settings, body.url)
    asked = body.model_dump_json(exclude_unset=True).encode()
    fingerprint = idempotency.fingerprint(request.method, request.url.path, asked)
    if idempotency_key is not None:
        earlier = await run_in_threadpool(
            made_before, resources, caller.tenant_id, idempotency_key, fingerprint
        )
        if earlier is not None and earlier.status != DatasetStatus.REJECTED:
            return _dataset_response(earlier, Registered(earlier, is_new=False, is_replay=True))
    with resources.transfers.taken():
        async with aclosing(pull(source, body, resources.settings)) as pieces:
            ticket, stored = await store_pieces(pieces, resources, caller.tenant_id, "prometheus")
        upload = StoredUpload(
            ticket, stored, body.name, "prometheus", body.mapping, idempotency_key, fingerprint
        )
        return await _registered(resources, upload, trail)


async def _registered(resources: Resources, upload: StoredUpload, trail: AuditTrail) -> Response:
    """The answer once the dataset is inspected or that takes long. Raises what makes it unusable."""
    registered = await register(resources, upload, trail)
    dataset = registered.dataset
    if dataset.status == DatasetStatus.INSPECTING:
        dataset = await resources.inspections.wait_for(upload.ticket.tenant_id, dataset.id) or dataset
    if dataset.status == DatasetStatus.REJECTED:
        await run_in_threadpool(forget_key, resources, upload)
        raise _refusal(read_stored(DatasetProblem, dataset.problem))
    return _dataset_response(dataset, registered)


def _refusal(problem: DatasetProblem) -> ServiceError:
    refusal = UnusableDataset(problem)
    if problem.code == "unsupported_format":
        return UnsupportedMedia(refusal.detail, refusal.errors)
    return refusal


def _dataset_response(dataset: Dataset, registered: Registered) -> Response:
    headers = {"Location": f"/v1/datasets/{dataset.id}"}
    if registered.is_replay:
        headers["Idempotency-Replayed"] = "true"
    is_created = registered.is_new or registered.is_replay
    body = DatasetRead.from_row(dataset).model_dump_json(by_alias=True)
    return Response(body, 201 if is_created else 200, headers, "application/json")


@router.get(
    "/v1/datasets",
    response_model=DatasetPage,
    operation_id="list_datasets",
    summary="List datasets",
    responses=answers(ok_200=json_answer("Newest first.", "datasets")),
)
def list_datasets(
    *, caller: DatasetsReader, resources: Service, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[DatasetRead]:
    """Every dataset of the key's tenant, page by page."""
    with resources.db.readers.begin() as session:
        return service.list_page(session, caller.tenant_id, limit=limit, cursor=cursor)


@router.get(
    "/v1/datasets/{dataset_id}",
    response_model=DatasetRead,
    operation_id="get_dataset",
    summary="Get a dataset",
    responses=answers("not_found", ok_200=json_answer("The dataset.", "dataset")),
)
def get_dataset(caller: DatasetsReader, resources: Service, dataset_id: DatasetId) -> DatasetRead:
    """Its status, its columns, its range of time, its digest. Poll it while `status` is `inspecting`."""
    with resources.db.readers.begin() as session:
        return DatasetRead.from_row(service.get(session, caller.tenant_id, dataset_id))


@router.get(
    "/v1/datasets/{dataset_id}/report",
    response_model=DatasetReport,
    operation_id="get_dataset_report",
    summary="Get the findings about a dataset",
    responses=answers(
        "not_found", "dataset_not_ready", ok_200=json_answer("The findings.", "dataset_report")
    ),
)
def get_dataset_report(caller: DatasetsReader, resources: Service, dataset_id: DatasetId) -> DatasetReport:
    """Gaps, duplicates, short or constant series, values out of range: counts and first examples."""
    with resources.db.readers.begin() as session:
        dataset = service.get(session, caller.tenant_id, dataset_id)
    if dataset.schema is None:
        raise DatasetNotReady(f"The dataset is {dataset.status}; only a ready one has a report.")
    schema = read_stored(DatasetSchema, dataset.schema)
    return DatasetReport(
        dataset_id=dataset.id,
        row_count=schema.row_count,
        series_count=schema.series_count,
        findings=schema.findings,
    )


@router.delete(
    "/v1/datasets/{dataset_id}",
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a dataset",
    responses=answers("not_found", "in_use", ok_204={"description": "Deleted."}),
)
def delete_dataset(
    caller: DatasetsWriter, resources: Service, trail: Trail, dataset_id: DatasetId
) -> Response:
    """Removes the dataset and its bytes. Refused while a job that has not ended needs it."""
    with resources.db.sessions.begin() as session:
        key = service.delete(session, caller.tenant_id, dataset_id)
        trail.note(session, dataset_id)
    try:
        resources.storage.delete(key)
    except StorageUnavailable:
        log.warning("bytes of a deleted dataset left for the scheduler", dataset_id=dataset_id)
    return Response(status_code=204)
