"""Query parameters that hold several values."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import FieldProblem, InvalidRequest
from core.jobs.lifecycle import JobStatus


def comma_separated(text: str | None) -> list[str] | None:
    """The parts, without empty ones; None where the parameter was left out."""
    return None if text is None else [part for part in (piece.strip() for piece in text.split(",")) if part]


def parse_statuses(text: str | None) -> list[JobStatus]:
    """`queued,running`. Raises InvalidRequest for any other word."""
    known = {status.value: status for status in JobStatus}
    names = comma_separated(text) or []
    for name in names:
        if name not in known:
            raise _refused("status", f"There is no status {name[:40]!a}; there are {', '.join(known)}.")
    return [known[name] for name in names]


def parse_labels(pairs: Sequence[str] | None) -> dict[str, str]:
    """`key:value`, one a pair. Raises InvalidRequest: no colon, or a key twice."""
    labels: dict[str, str] = {}
    for pair in pairs or ():
        key, colon, value = pair.partition(":")
        if not colon or not key:
            raise _refused("label", "Write a label as key:value, such as env:prod.")
        if key in labels:
            raise _refused("label", f"The label {key[:63]!a} is asked for twice; a job has one value of it.")
        labels[key] = value
    return labels


def _refused(name: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, [FieldProblem("not_allowed", detail, f"/query/{name}")])
