"""What is to be sent is written with the event it tells of, in one transaction: neither is there alone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row
from sqlalchemy.orm import Session

from core.jobs.schemas import EventRead
from core.webhooks import repository
from core.webhooks.repository import Message


def post(session: Session, tenant_id: str, event: Row[Any]) -> None:
    """One delivery for each webhook that wants the event; a single SELECT where none does.

    `event` is the whole row. The body is what the list of events shows of it.
    """
    wanted_by = repository.subscribers(session, tenant_id, event.type)
    if wanted_by:
        body = EventRead.model_validate(event).model_dump_json()
        message = Message(event.id, event.type, event.job_id, body)
        repository.add_deliveries(session, wanted_by, message)
