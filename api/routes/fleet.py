"""What there is to train on, and what waits for it."""

from __future__ import annotations

from api.dependencies import JobsReader, Service
from api.openapi import answers, json_answer
from api.strict_route import strict_router
from core.jobs.backlog import read_queues
from core.jobs.schemas import Queues
from core.workers import service as workers
from core.workers.schemas import Capabilities

router = strict_router("fleet")


@router.get(
    "/v1/capabilities",
    response_model=Capabilities,
    operation_id="get_capabilities",
    summary="Ask what the live workers can do",
    responses=answers(ok_200=json_answer("At this moment.", "capabilities")),
)
def get_capabilities(_caller: JobsReader, resources: Service) -> Capabilities:
    """Precisions, accelerators and devices a job can ask for and get now: enough to build a form from."""
    with resources.db.readers.begin() as session:
        return workers.capabilities(session, resources.settings.max_upload_bytes)


@router.get(
    "/v1/queue",
    response_model=Queues,
    operation_id="get_queue",
    summary="Ask what waits in the queues",
    responses=answers(ok_200=json_answer("At this moment.", "queues")),
)
def get_queue(_caller: JobsReader, resources: Service) -> Queues:
    """Jobs and workers by queue, over all tenants; a job's own place is in the job."""
    with resources.db.readers.begin() as session:
        return read_queues(session)
