"""The numbers of a dataset, to be drawn."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.dependencies import DatasetId, DatasetsReader, IfNoneMatch, Service
from api.etags import is_held, not_modified, polled_response, weak_etag
from api.openapi import answers, header, json_answer
from api.resources import Resources
from api.strict_route import strict_router
from core.datasets import service
from core.datasets.values import WantedValues, choose_values, read_values
from trainer.dataset.schema import SeriesValues

router = strict_router("datasets")


@router.get(
    "/v1/datasets/{dataset_id}/values",
    response_model=SeriesValues,
    operation_id="read_dataset_values",
    summary="Read one column of one series",
    responses=answers(
        "not_found",
        "dataset_not_ready",
        "invalid_dataset",
        "storage_unavailable",
        ok_200=json_answer(
            "What was measured.", "series_values", headers={"ETag": header("The same for ever.")}
        ),
        ok_304={"description": "The values are those you hold."},
    ),
)
async def read_dataset_values(
    *,
    request: Request,
    caller: DatasetsReader,
    resources: Service,
    dataset_id: DatasetId,
    series: Annotated[str | None, Query(max_length=2000, description="Default: the first.")] = None,
    column: Annotated[
        str | None, Query(max_length=200, description="A numeric one. Default: the first.")
    ] = None,
    max_points: Annotated[
        int, Query(ge=10, le=20_000, description="Beyond it the extremes and gaps of each stretch are kept.")
    ] = 2000,
    _if_none_match: IfNoneMatch = None,
) -> Response:
    """On the series' regular grid, null where nothing was measured; for a plot, so spikes stay.

    The stored file is read each time, in a child process like an inspection, and in turn with those.
    """
    wanted = await run_in_threadpool(
        _choose, resources, caller.tenant_id, dataset_id, column, series, max_points
    )
    etag = weak_etag(f"{wanted.sha256} {wanted.mapping} {wanted.column} {wanted.series} {max_points}")
    if is_held(request, etag):
        return not_modified(etag)
    values = await resources.inspections.in_turn(read_values, resources.storage, resources.settings, wanted)
    return polled_response(request, values.model_dump_json(), etag)


def _choose(
    resources: Resources,
    tenant_id: str,
    dataset_id: str,
    column: str | None,
    series: str | None,
    max_points: int,
) -> WantedValues:
    with resources.db.readers.begin() as session:
        dataset = service.get(session, tenant_id, dataset_id)
        return choose_values(dataset, column, series, max_points)
