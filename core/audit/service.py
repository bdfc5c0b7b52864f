"""Who did what: written in the transaction that does it, so that neither is there without the other."""

from __future__ import annotations

from sqlalchemy.orm import Session

from core.audit import repository
from core.audit.schemas import AuditEventRead, AuditFilter, Deed, Outcome
from core.ids import new_id
from core.pages import DEFAULT_LIMIT, Page, cut_page, newest_first_key


def record(
    session: Session, deed: Deed, object_id: str | None = None, outcome: Outcome = Outcome.DONE
) -> None:
    """Notes the deed; what was denied needs a transaction of its own."""
    repository.add(session, deed, new_id("aud"), object_id, outcome)


def list_page(
    session: Session,
    tenant_id: str,
    wanted: AuditFilter,
    *,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[AuditEventRead]:
    """Newest first. Raises InvalidRequest for a bad cursor."""
    rows = repository.page(session, tenant_id, wanted, limit, cursor)
    shown, next_cursor = cut_page(rows, limit, repository.PAGE_ORDER, newest_first_key)
    return Page(items=[AuditEventRead.model_validate(row) for row in shown], next_cursor=next_cursor)
