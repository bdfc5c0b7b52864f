"""Is the process alive, and can it serve?"""

from __future__ import annotations

from typing import Literal

import structlog
from fastapi import Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.dependencies import Service
from api.openapi import answers, json_answer
from api.problems import HttpProblem
from api.resources import Resources
from api.strict_route import strict_router
from api.validation_problems import summary
from core.errors import FieldProblem, StorageUnavailable

log = structlog.get_logger(__name__)
router = strict_router("health")


class Liveness(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """What the service depends on. Without the broker it is `degraded`, but serves: jobs are kept."""

    status: Literal["ready", "degraded"]
    database: Literal["ok"]
    storage: Literal["ok"]
    broker: Literal["ok", "unavailable"] = Field(description="Only makes workers start sooner.")


@router.get(
    "/livez",
    response_model=Liveness,
    operation_id="check_liveness",
    summary="Is the process alive?",
    responses=answers(with_key=False, ok_200=json_answer("Yes.", "liveness")),
)
async def check_liveness() -> Liveness:
    """Touches nothing but the process: a database that is down is no reason to restart it."""
    return Liveness()


@router.get(
    "/readyz",
    response_model=Readiness,
    operation_id="check_readiness",
    summary="Can the service serve?",
    responses=answers("not_ready", with_key=False, ok_200=json_answer("Yes.", "readiness")),
)
def check_readiness(resources: Service, response: Response) -> Readiness:
    """Asks database, storage and broker. A broker that is down costs time, not jobs: `degraded`."""
    checks = {"database": _has_database, "storage": _has_storage}
    missing = [name for name, answers_now in checks.items() if not answers_now(resources)]
    if missing:
        errors = [FieldProblem(f"{name}_unavailable", f"The {name} does not answer.") for name in missing]
        raise HttpProblem("not_ready", summary(errors), errors=errors)
    response.headers["Cache-Control"] = "no-store"
    if resources.queue.ping():
        return Readiness(status="ready", database="ok", storage="ok", broker="ok")
    return Readiness(status="degraded", database="ok", storage="ok", broker="unavailable")


def _has_database(resources: Resources) -> bool:
    try:
        resources.db.check()
    except SQLAlchemyError as error:
        log.warning("database does not answer", reason=str(getattr(error, "orig", error)))
        return False
    return True


def _has_storage(resources: Resources) -> bool:
    try:
        resources.storage.check()
    except StorageUnavailable as error:
        log.warning("storage does not answer", reason=str(error.__cause__ or error))
        return False
    return True
