"""All SQL on datasets and their uploads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, update
from sqlalchemy.orm import Session

from core.database import db_now, insert_or, later
from core.datasets.lifecycle import DatasetStatus
from core.jobs.lifecycle import TERMINAL
from core.pages import newest_first
from core.tables import Dataset, Job, Upload

PAGE_ORDER = "datasets-created_at"


def add_upload(
    session: Session, *, dataset_id: str, tenant_id: str, storage_key: str, expires_seconds: float
) -> None:
    session.add(
        Upload(
            dataset_id=dataset_id,
            tenant_id=tenant_id,
            storage_key=storage_key,
            expires_at=later(db_now(), expires_seconds),
        )
    )
    session.flush()


def take_upload(session: Session, dataset_id: str) -> bool:
    """Removes the note of an upload that ended in time; False where it expired: then its bytes go as well."""
    in_time = (Upload.dataset_id == dataset_id, Upload.expires_at > db_now())
    return session.scalar(delete(Upload).where(*in_time).returning(Upload.dataset_id)) is not None


def remove_upload(session: Session, dataset_id: str) -> None:
    session.execute(delete(Upload).where(Upload.dataset_id == dataset_id))


def expired_uploads(session: Session, limit: int) -> Sequence[Upload]:
    return session.scalars(select(Upload).where(Upload.expires_at < db_now()).limit(limit)).all()


def add_or_find(session: Session, row: dict[str, Any]) -> tuple[Dataset, bool]:
    """The new dataset and True, or the tenant's own with the same content and False.

    Of two that add the same content at the same time, the later one waits for the other and finds its row.
    """
    statement = insert_or(session, Dataset).values(**row).on_conflict_do_nothing().returning(Dataset.id)
    if session.scalar(statement) is not None:
        return session.get_one(Dataset, row["id"], populate_existing=True), True
    return session.scalars(_same_content(row)).one(), False


def stored_bytes(session: Session, tenant_id: str) -> int:
    """Of all its datasets."""
    kept = (Dataset.deleted_at.is_(None), Dataset.status != DatasetStatus.REJECTED)
    total = select(func.coalesce(func.sum(Dataset.size_bytes), 0)).where(
        Dataset.tenant_id == tenant_id, *kept
    )
    return int(session.scalars(total).one())


def _same_content(row: dict[str, Any]) -> Any:
    return select(Dataset).where(
        Dataset.tenant_id == row["tenant_id"],
        Dataset.sha256 == row["sha256"],
        Dataset.reading_sha256 == row["reading_sha256"],
        Dataset.status != DatasetStatus.REJECTED,
        Dataset.deleted_at.is_(None),
    )


def find(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    """The row as it is now."""
    return session.scalars(
        select(Dataset).where(*_of_tenant(tenant_id, dataset_id)),
        execution_options={"populate_existing": True},
    ).one_or_none()


def lock(session: Session, tenant_id: str, dataset_id: str) -> Dataset | None:
    """Waits for a job that is being submitted on it."""
    return session.scalars(
        select(Dataset).where(*_of_tenant(tenant_id, dataset_id)).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def _of_tenant(tenant_id: str, dataset_id: str) -> tuple[ColumnElement[bool], ...]:
    return (Dataset.id == dataset_id, Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))


def page(session: Session, tenant_id: str, limit: int, cursor: str | None) -> Sequence[Dataset]:
    """Newest first; one row more than `limit`, if there is one."""
    statement = select(Dataset).where(Dataset.tenant_id == tenant_id, Dataset.deleted_at.is_(None))
    return session.scalars(newest_first(statement, Dataset, PAGE_ORDER, limit, cursor)).all()


def is_in_use(session: Session, dataset_id: str) -> bool:
    """Whether a job that has not ended needs it."""
    needed = exists().where(Job.dataset_id == dataset_id, Job.status.not_in(TERMINAL))
    return bool(session.scalar(select(needed)))


def hide(session: Session, dataset_id: str) -> None:
    session.execute(update(Dataset).where(Dataset.id == dataset_id).values(deleted_at=db_now()))


def remove_rejected(session: Session, tenant_id: str, dataset_id: str) -> str | None:
    """The storage key of the row that went."""
    statement = delete(Dataset).where(
        *_of_tenant(tenant_id, dataset_id), Dataset.status == DatasetStatus.REJECTED
    )
    return session.scalar(statement.returning(Dataset.storage_key))


def take_inspection(session: Session, dataset_id: str, lease_seconds: float) -> Dataset | None:
    """One more attempt, if nobody holds the lease; the first lease only keeps the scheduler away.

    `inspections_left` is below zero in a row that has used them up.
    """
    free = or_(Dataset.inspection_attempt == 0, Dataset.inspection_lease_until < db_now())
    return _update_inspecting(
        session,
        dataset_id,
        [free],
        inspection_attempt=Dataset.inspection_attempt + 1,
        inspections_left=Dataset.inspections_left - 1,
        inspection_lease_until=later(db_now(), lease_seconds),
    )


def renew_inspection(session: Session, dataset_id: str, attempt: int, lease_seconds: float) -> Dataset | None:
    mine = [Dataset.inspection_attempt == attempt]
    return _update_inspecting(
        session, dataset_id, mine, inspection_lease_until=later(db_now(), lease_seconds)
    )


def release_inspection(session: Session, dataset_id: str, attempt: int) -> None:
    """As if this attempt had not been made."""
    mine = [Dataset.inspection_attempt == attempt]
    _update_inspecting(
        session,
        dataset_id,
        mine,
        inspections_left=Dataset.inspections_left + 1,
        inspection_lease_until=db_now(),
    )


def end_inspection(
    session: Session, dataset_id: str, attempt: int, status: DatasetStatus, **values: Any
) -> Dataset | None:
    mine = [Dataset.inspection_attempt == attempt]
    return _update_inspecting(
        session, dataset_id, mine, status=status, inspection_lease_until=None, inspected_at=db_now(), **values
    )


def _update_inspecting(
    session: Session, dataset_id: str, guard: Sequence[ColumnElement[bool]], **values: Any
) -> Dataset | None:
    statement = (
        update(Dataset)
        .where(Dataset.id == dataset_id, Dataset.status == DatasetStatus.INSPECTING, *guard)
        .values(values)
        .returning(Dataset)
    )
    return session.scalars(
        statement, execution_options={"synchronize_session": False, "populate_existing": True}
    ).one_or_none()


def lost_inspections(session: Session, limit: int, passed_over: Collection[str] = ()) -> Sequence[str]:
    """Ids of datasets whose inspection nobody holds, the longest without one first."""
    return session.scalars(
        select(Dataset.id)
        .where(
            Dataset.status == DatasetStatus.INSPECTING,
            Dataset.deleted_at.is_(None),
            Dataset.inspection_lease_until < db_now(),
            Dataset.id.not_in(passed_over),
        )
        .order_by(Dataset.inspection_lease_until, Dataset.id)
        .limit(limit)
    ).all()


def unpurged(session: Session, limit: int) -> Sequence[Dataset]:
    """Deleted and rejected datasets whose bytes may still be there."""
    useless = or_(Dataset.deleted_at.is_not(None), Dataset.status == DatasetStatus.REJECTED)
    return session.scalars(select(Dataset).where(useless, Dataset.purged_at.is_(None)).limit(limit)).all()


def note_purged(session: Session, dataset_id: str) -> None:
    session.execute(update(Dataset).where(Dataset.id == dataset_id).values(purged_at=db_now()))
