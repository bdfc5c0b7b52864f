"""Objects that no row names: what a lost worker, an upload that broke off or a deleted job left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from core.database import read_clock
from core.storage import owner_of, tenant_folder
from core.upkeep import repository

if TYPE_CHECKING:
    from core.database import Database
    from core.storage import ObjectStorage

# A row follows its object within minutes, and a storage's clock is not ours: a day is far beyond both.
GARBAGE_AGE_SECONDS = 24 * 3600.0
AT_ONCE = 500
logger = structlog.get_logger(__name__)


def collect_garbage(
    db: Database,
    storage: ObjectStorage,
    *,
    age_seconds: float = GARBAGE_AGE_SECONDS,
    is_stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Deletes objects that are older than that and that no row names; how many.

    Only below the folders of tenants that this database knows: a storage that serves another database as
    well loses nothing of the other's. Raises StorageUnavailable.
    """
    with db.readers.begin() as session:
        before = read_clock(session) - timedelta(seconds=age_seconds)
        tenant_ids = repository.tenant_ids(session)
    count = 0
    for tenant_id in tenant_ids:
        for keys in _batches(storage.list_older(tenant_folder(tenant_id), before)):
            if is_stopping():
                return count
            count += _delete_unnamed(db, storage, keys)
    storage.remove_broken_off(before)
    return count


def _delete_unnamed(db: Database, storage: ObjectStorage, keys: list[str]) -> int:
    owners = {owner for key in keys if (owner := owner_of(key)) is not None}
    with db.readers.begin() as session:
        named = repository.keys_named(session, owners)
    garbage = [key for key in keys if key not in named]
    for key in garbage:
        storage.delete(key)
        logger.info("garbage_collected", key=key)
    return len(garbage)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, AT_ONCE)):
        yield batch
