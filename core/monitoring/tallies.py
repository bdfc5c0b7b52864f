"""Counts that outlive the rows they were counted from, and the processes that counted them.

What happens is noted as an entry in the transaction in which it happens: an INSERT, so that no two writers
wait for each other. The scheduler folds entries into totals. A count is the sum of both, read in one
statement: it never falls, and every process reads the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, func, insert, literal, select, union_all
from sqlalchemy.orm import Session

from core.database import insert_or
from core.ids import new_id
from core.tables import Tally, TallyEntry

# Upper bounds of the histograms' buckets, in seconds: from a refused job to a training of two days.
BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400, 172_800)
BEYOND = 0  # stands for a bucket without an upper bound, and for what has no duration
FOLDED_AT_ONCE = 5_000


class Tallied(StrEnum):
    """What is counted."""

    JOB = "job"
    ATTEMPT = "attempt"
    LEASE_EXPIRED = "lease_expired"
    FENCED = "fenced"
    SCHEDULER_ROUND = "scheduler_round"
    WEBHOOK = "webhook"


@dataclass(frozen=True)
class Key:
    """`outcome` and `reason` are empty where the kind has none; `bucket` is one of BUCKETS or BEYOND."""

    kind: str
    outcome: str = ""
    reason: str = ""
    bucket: int = BEYOND


@dataclass(frozen=True)
class Total:
    """How often, and the sum of the durations in seconds."""

    count: int
    seconds: float


def note(
    session: Session,
    kind: Tallied,
    outcome: str = "",
    reason: str = "",
    *,
    seconds: float | None = None,
    times: int = 1,
) -> None:
    """Counts it once this transaction is committed. `seconds`: how long it took."""
    if times == 0:
        return
    entry = {
        "kind": kind.value,
        "outcome": outcome,
        "reason": reason,
        "bucket": BEYOND if seconds is None else _bucket(seconds),
        "seconds": seconds or 0.0,
    }
    session.execute(insert(TallyEntry), [{"id": new_id("tal"), **entry} for _ in range(times)])


def _bucket(seconds: float) -> int:
    place = bisect_left(BUCKETS, seconds)
    return BUCKETS[place] if place < len(BUCKETS) else BEYOND


def fold(session: Session, limit: int = FOLDED_AT_ONCE) -> int:
    """Moves the oldest entries into the totals; how many it were. Several at once never take the same."""
    oldest = select(TallyEntry.id).order_by(TallyEntry.id).limit(limit).with_for_update(skip_locked=True)
    columns = (TallyEntry.kind, TallyEntry.outcome, TallyEntry.reason, TallyEntry.bucket, TallyEntry.seconds)
    taken = session.execute(
        delete(TallyEntry).where(TallyEntry.id.in_(oldest)).returning(*columns),
        execution_options={"synchronize_session": False},
    ).all()
    counts: Counter[Key] = Counter()
    seconds: Counter[Key] = Counter()
    for row in taken:
        key = Key(row.kind, row.outcome, row.reason, row.bucket)
        counts[key] += 1
        seconds[key] += row.seconds
    # In one order everywhere: two folds that meet in the same totals never wait in a ring.
    for key in sorted(counts, key=lambda key: (key.kind, key.outcome, key.reason, key.bucket)):
        _add(session, key, Total(counts[key], seconds[key]))
    return len(taken)


def _add(session: Session, key: Key, more: Total) -> None:
    statement = insert_or(session, Tally).values(
        kind=key.kind,
        outcome=key.outcome,
        reason=key.reason,
        bucket=key.bucket,
        count=more.count,
        seconds=more.seconds,
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Tally.kind, Tally.outcome, Tally.reason, Tally.bucket],
            set_={
                "count": Tally.count + statement.excluded.count,
                "seconds": Tally.seconds + statement.excluded.seconds,
            },
        )
    )


def read(session: Session) -> dict[Key, Total]:
    """All counts as of now."""
    # One statement, one snapshot: an entry that is being folded is seen either here or there.
    everything = union_all(
        select(Tally.kind, Tally.outcome, Tally.reason, Tally.bucket, Tally.count, Tally.seconds),
        select(
            TallyEntry.kind,
            TallyEntry.outcome,
            TallyEntry.reason,
            TallyEntry.bucket,
            literal(1).label("count"),
            TallyEntry.seconds,
        ),
    ).subquery()
    key = (everything.c.kind, everything.c.outcome, everything.c.reason, everything.c.bucket)
    rows = session.execute(
        select(*key, func.sum(everything.c.count), func.sum(everything.c.seconds)).group_by(*key)
    )
    return {Key(*row[:4]): Total(int(row[4]), float(row[5])) for row in rows}
