"""When each key was last used: remembered here, written now and then, never while a request waits."""

from __future__ import annotations

from core.access import repository
from core.database import Database

WRITE_SECONDS = 60.0


class KeyUse:
    """Of one process. `note` is called on the event loop's thread, `write` on any."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._used: set[str] = set()

    def note(self, key_id: str) -> None:
        self._used.add(key_id)

    def write(self) -> None:
        """One statement for all that were used since the last time. Raises sqlalchemy.exc.SQLAlchemyError."""
        used, self._used = self._used, set()
        if not used:
            return
        with self._db.sessions.begin() as session:
            repository.note_used(session, used, WRITE_SECONDS / 2)
