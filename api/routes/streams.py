"""A job's events as they happen."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from api.dependencies import JobId, JobsReadersKey, LastEventId, Service, UncheckedKey
from api.event_stream import EventStream
from api.openapi import answers
from api.resources import Resources
from api.strict_route import strict_router
from core.errors import FieldProblem, InvalidRequest, NotFound
from core.jobs.lifecycle import is_terminal
from core.jobs.polling import PolledState, poll_state

router = strict_router("jobs")
# As OpenAPI 3.2 describes a stream: the schema of one frame.
_FRAME: dict[str, Any] = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "Without `event` an EventRead; of `progress` a Progress; of `end` its `status`.",
        },
        "event": {"type": "string", "examples": ["progress", "end"]},
        "id": {"type": "string", "description": "`seq` of a stored event."},
    },
}
_FRAME_EXAMPLE = {
    "data": '{"id":"evt_019299aabbcc7ddd8eeeffff00003333","seq":2,"type":"job.running","data":{"attempt":1}}',
    "id": "2",
}
_STREAM: dict[str, Any] = {
    "description": "Frames of Server-Sent Events, one after the other.",
    "content": {"text/event-stream": {"schema": _FRAME, "example": _FRAME_EXAMPLE}},
}


@router.get(
    "/v1/jobs/{job_id}/events/stream",
    operation_id="stream_events",
    summary="Stream a job's events",
    response_class=StreamingResponse,
    responses=answers(
        "not_found",
        "too_many_waiting",
        ok_200=_STREAM,
        ok_204={"description": "The job has ended and you have all its events: do not connect again."},
    ),
)
async def stream_events(
    *,
    request: Request,
    key: JobsReadersKey,
    resources: Service,
    job_id: JobId,
    last_event_id: LastEventId = None,
) -> Response:
    """Server-Sent Events: all events from the first or behind Last-Event-ID, then each as it happens.

    Stored events carry their `seq` as id. `progress` comes beside them, without an id; `end` says that the
    job has ended, and closes. A stream that closes without it has lasted its time, or the connection broke:
    connect again with the last id, and nothing is missed nor comes twice.
    """
    state = await run_in_threadpool(_readable_state, resources, key, job_id)
    last_seq = _seq(last_event_id, state)
    if is_terminal(state.status) and last_event_id is not None and last_seq == state.last_seq:
        return Response(status_code=204)
    if request.state.is_head:
        return Response(media_type=EventStream.media_type)
    resources.watcher.require_room()

    def recheck() -> None:
        _readable_state(resources, key, job_id)

    return EventStream(resources, job_id, last_seq, recheck)


def _readable_state(resources: Resources, key: UncheckedKey, job_id: str) -> PolledState:
    found = poll_state(resources.db, resources.board, key.presented, job_id)
    key.checked(found.caller)
    if found.state is None:
        raise NotFound(f"There is no job {job_id}.")
    return found.state


def _seq(last_event_id: str | None, state: PolledState) -> int:
    if not last_event_id:
        return 0
    if last_event_id.isascii() and last_event_id.isdigit() and int(last_event_id) <= state.last_seq:
        return int(last_event_id)
    detail = "Last-Event-ID is not the id of an event of this job; leave it out to get all of them."
    raise InvalidRequest(detail, [FieldProblem("invalid_event_id", detail, "/header/Last-Event-ID")])
