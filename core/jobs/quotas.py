"""How many jobs a tenant may have waiting."""

from __future__ import annotations

from sqlalchemy.orm import Session

from core.access.repository import lock_tenant
from core.errors import QuotaExceeded
from core.jobs import claiming


def require_room_in_queue(session: Session, tenant_id: str, max_queued: int | None) -> None:
    """Call it in the transaction that queues one more: two at the quota's edge do not both pass.

    None is no quota. Raises QuotaExceeded.
    """
    if max_queued is None:
        return
    lock_tenant(session, tenant_id)
    if claiming.count_queued(session, tenant_id, max_queued) >= max_queued:
        raise QuotaExceeded(
            f"{max_queued} jobs wait, as many as a tenant may have; cancel one, or wait for its start."
        )
