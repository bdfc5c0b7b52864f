"""The entries of a job's log of events: what they hold, and that each stays small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.database import dump_json
from core.jobs.lifecycle import EventType

if TYPE_CHECKING:
    from sqlalchemy import Row

    from core.tables import Job

# The whole event, with its id, times and type, stays under 4 KB: a webhook body is one.
MAX_DATA_BYTES = 3_500
MAX_TEXT = 1_000


@dataclass(frozen=True)
class NewEvent:
    """An event to be written. Its data start with the job's status and attempt after the change."""

    type: EventType
    details: dict[str, Any] = field(default_factory=dict)

    def data(self, job: Job | Row[Any]) -> dict[str, Any]:
        """What is stored, cut down to MAX_DATA_BYTES with the longest details left out first."""
        whole = {"status": job.status.value, "attempt": job.attempt, **_cut_texts(self.details)}
        while len(dump_json(whole).encode()) > MAX_DATA_BYTES:
            longest = max(whole, key=lambda name: len(dump_json(whole[name])))
            whole[longest] = None
            whole["truncated"] = True
        return whole


def _cut_texts(details: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[:MAX_TEXT] + "…" if isinstance(value, str) and len(value) > MAX_TEXT else value
        for name, value in details.items()
    }
