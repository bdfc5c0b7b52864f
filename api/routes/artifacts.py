"""Downloading what a job has stored."""

from __future__ import annotations

from typing import Annotated, Any

import structlog
from fastapi import Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from api.dependencies import ArtifactName, IfNoneMatch, JobId, JobsReader, Service
from api.downloads import StoredFile, file_response
from api.openapi import ARTIFACT_PATH, BINARY, answers, header, json_answer
from api.resources import Resources
from api.strict_route import strict_router
from core.errors import ArtifactNotFound, StorageKeyMissing
from core.jobs import reading
from core.jobs.schemas import ArtifactRead
from core.pages import Page

PRESIGNED_SECONDS = 900
RESULT_NAME = "result.json"
log = structlog.get_logger(__name__)
router = strict_router("artifacts")

# Each file has a media type of its own; that of most, and of all that hold weights, is the first.
FILE_CONTENT: dict[str, Any] = {"application/octet-stream": BINARY, "*/*": {}}
_FILE_HEADERS = {
    "ETag": header("Strong: the file's SHA-256 in hex."),
    "Repr-Digest": header("The whole file's SHA-256 (RFC 9530), also beside a part."),
    "Accept-Ranges": header("`bytes`"),
    "Content-Length": header("Bytes in this answer."),
}


class ArtifactPage(Page[ArtifactRead]):
    """All files a job has stored, by name."""


class TrainingResult(BaseModel):
    """The job's `result.json`: for each target and horizon the scores of the model and of the naive
    forecasts on the same windows, the verdict, and what the run was made with. Members may be added.
    """

    model_config = ConfigDict(extra="allow")


@router.get(
    "/v1/jobs/{job_id}/artifacts",
    response_model=ArtifactPage,
    operation_id="list_artifacts",
    summary="List what a job has stored",
    responses=answers("not_found", ok_200=json_answer("By name.", "artifacts")),
)
def list_artifacts(caller: JobsReader, resources: Service, job_id: JobId) -> Page[ArtifactRead]:
    """Each file with size and digest, of each name the latest. `complete`: the job has succeeded."""
    with resources.db.readers.begin() as session:
        artifacts = reading.list_artifacts(session, caller.tenant_id, job_id)
    return Page(items=artifacts, next_cursor=None)


@router.get(
    ARTIFACT_PATH,
    response_class=Response,
    operation_id="download_artifact",
    summary="Download a file",
    responses=answers(
        "not_found",
        "artifact_not_found",
        "overloaded",
        "range_not_satisfiable",
        "storage_unavailable",
        ok_200={
            "description": "The whole file.",
            "headers": _FILE_HEADERS,
            "content": FILE_CONTENT,
        },
        ok_206={
            "description": "The part asked for.",
            "headers": _FILE_HEADERS | {"Content-Range": header("Which bytes, of how many.")},
            "content": FILE_CONTENT,
        },
        ok_304={"description": "The file is the one you hold."},
        ok_307={
            "description": "With `redirect`: where the storage itself hands out the file, for a short time.",
            "headers": {"Location": header("A URL that needs no key.")},
        },
    ),
)
async def download_artifact(
    *,
    request: Request,
    caller: JobsReader,
    resources: Service,
    job_id: JobId,
    name: ArtifactName,
    redirect: Annotated[
        bool, Query(description="Answer with a presigned URL where the storage can make one.")
    ] = False,
    _range: Annotated[
        str | None, Header(alias="Range", description="One range of bytes.", examples=["bytes=1048576-"])
    ] = None,
    _if_range: Annotated[
        str | None,
        Header(alias="If-Range", description="The ETag of the part you hold: resume only that file."),
    ] = None,
    _if_none_match: IfNoneMatch = None,
) -> Response:
    """The bytes. An interrupted download goes on with Range and If-Range. If the connection breaks off just
    before the end, the file in storage is damaged: the digest is checked before the last bytes are sent.
    """
    file = await run_in_threadpool(_find_file, resources, caller.tenant_id, job_id, name)
    if redirect and not request.scope["state"]["is_head"]:
        url = await run_in_threadpool(resources.storage.presign_download, file.storage_key, PRESIGNED_SECONDS)
        if url is not None:
            return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
    try:
        return await file_response(request, resources, file)
    except StorageKeyMissing:
        return await _file_response_after_a_change(request, resources, caller.tenant_id, job_id, file)


def _find_file(resources: Resources, tenant_id: str, job_id: str, name: str) -> StoredFile:
    with resources.db.readers.begin() as session:
        row = reading.get_artifact(session, tenant_id, job_id, name)
        return StoredFile(row.name, row.storage_key, row.size_bytes, row.sha256, row.media_type)


async def _file_response_after_a_change(
    request: Request, resources: Resources, tenant_id: str, job_id: str, missing: StoredFile
) -> Response:
    """A newer checkpoint may have taken the name, and the older bytes gone, between look-up and reading."""
    file = await run_in_threadpool(_find_file, resources, tenant_id, job_id, missing.name)
    if file.storage_key == missing.storage_key:
        log.error("a stored file is missing", job_id=job_id, storage_key=file.storage_key)
        raise ArtifactNotFound(f"{file.name} is no longer there.")
    return await file_response(request, resources, file)


@router.get(
    "/v1/jobs/{job_id}/result",
    response_model=TrainingResult,
    operation_id="get_result",
    summary="Get a job's scores",
    responses=answers(
        "not_found",
        "artifact_not_found",
        "overloaded",
        "storage_unavailable",
        ok_200=json_answer(
            "The scores.",
            "result",
            headers={"ETag": header("Strong: of the file result.json.")},
        ),
        ok_304={"description": "The result is the one you hold."},
    ),
)
async def get_result(
    *,
    request: Request,
    caller: JobsReader,
    resources: Service,
    job_id: JobId,
    _if_none_match: IfNoneMatch = None,
) -> Response:
    """What the trained model is worth, target by target, beside last-value and seasonal-naive forecasts."""
    file = await run_in_threadpool(_find_file, resources, caller.tenant_id, job_id, RESULT_NAME)
    answer = await file_response(request, resources, file, in_parts=False)
    for name in ("accept-ranges", "content-disposition"):
        del answer.headers[name]
    return answer
