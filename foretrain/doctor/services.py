"""Whether database, storage and broker answer, where settings name some."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from foretrain.doctor.environment import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from core.settings import Settings


def check_services(settings: Settings) -> Iterator[Check]:
    """One row for each service of which an address is set; the others are `foretrain up`'s own."""
    for name, variable, check in (
        ("database", "database_url", _ask_database),
        ("storage", "storage_url", _ask_storage),
        ("broker", "broker_url", _ask_broker),
    ):
        if _is_set(variable):
            yield _asked(name, f"FORETRAIN_{variable.upper()}", check, settings)


def _is_set(variable: str) -> bool:
    secrets = os.environ.get("FORETRAIN_SECRETS_DIR")
    name = f"FORETRAIN_{variable.upper()}"
    return bool(os.environ.get(name)) or (secrets is not None and (Path(secrets) / name.lower()).exists())


def _asked(name: str, variable: str, ask: Callable[[Settings], None], settings: Settings) -> Check:
    try:
        ask(settings)
    except Exception as error:  # noqa: BLE001 - any vendor's way of saying no
        # Only the kind: a message may hold the address with its password.
        return Check(name, "problem", f"does not answer: {type(error).__name__}", f"see {variable}")
    return Check(name, "ok", "answers")


def _ask_database(settings: Settings) -> None:
    from core.database import connect

    db = connect(settings.database_url)
    try:
        db.check()
    finally:
        db.dispose()


def _ask_storage(settings: Settings) -> None:
    from foretrain.setup import open_object_storage

    open_object_storage(settings).check()


def _ask_broker(settings: Settings) -> None:
    from core.queue import make_celery, ping

    if not ping(make_celery(settings)):
        raise TimeoutError
