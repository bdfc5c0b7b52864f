from __future__ import annotations

import asyncio
from dataclasses import dataclass

from core.access.key_use import KeyUse
from core.access.rates import Rates, SharedCounts, shared_counts
from core.access.scopes import Scope
from core.access.service import create_key, get_key
from core.database import Database
from tests.servers import run_valkey


@dataclass
class Clock:
    now: float = 1_000_000_000.0  # 40 s into its minute

    def __call__(self) -> float:
        return self.now


def valkey(broker_url: str) -> SharedCounts:
    """The tests' Valkey listens on a Unix socket, which the service would not share."""
    return SharedCounts(broker_url.replace("redis+socket://", "unix://"))


def test_counts_begin_anew_with_each_minute_of_the_clock() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    assert [rates.add("a"), rates.add("a"), rates.add("b")] == [1, 2, 1]
    assert rates.seconds_left == 20

    clock.now += rates.seconds_left

    assert rates.count("a") == 0
    assert rates.add("a") == 1
    assert rates.seconds_left == 60


def test_two_processes_count_together_once_they_have_shared(broker_url: str) -> None:
    async def scenario() -> list[int]:
        clock = Clock()
        one, two = Rates(valkey(broker_url), clock), Rates(valkey(broker_url), clock)
        for _ in range(5):
            one.add("a")
        await one.share()
        two.add("a")
        await two.share()
        one.add("a")
        await one.share()
        await one.share()
        counts = [one.count("a"), two.count("a")]
        clock.now += 60
        counts += [one.count("a"), two.add("a")]
        await two.share()
        counts.append(two.count("a"))
        await one.close()
        await two.close()
        return counts

    assert asyncio.run(scenario()) == [7, 6, 0, 1, 1]


def test_without_the_broker_each_counts_alone_and_catches_up_later() -> None:
    async def scenario(url: str) -> list[int]:
        clock = Clock()
        one, two = Rates(valkey(url), clock), Rates(valkey(url), clock)
        one._shared = SharedCounts("unix:///nowhere.sock")
        one.add("a")
        await one.share()
        counts = [one.count("a")]
        one._shared = valkey(url)
        await one.share()
        two.add("a")
        await two.share()
        await one.close()
        await two.close()
        return [*counts, two.count("a")]

    with run_valkey() as url:
        assert asyncio.run(scenario(url)) == [1, 2]


def test_only_a_broker_that_other_machines_reach_is_shared() -> None:
    assert shared_counts("redis+socket:///run/broker.sock") is None
    assert shared_counts("sqla+sqlite:///broker.db") is None
    assert shared_counts("redis://:secret@valkey:6379/0") is not None


def test_use_of_a_key_is_written_apart_from_the_requests_and_not_too_often(database: Database) -> None:
    with database.sessions.begin() as session:
        key, _ = create_key(session, "acme", [Scope.JOBS_READ])
        tenant_id = session.connection().exec_driver_sql("SELECT tenant_id FROM api_keys").scalar_one()

    def used_at() -> object:
        with database.readers.begin() as session:
            return get_key(session, tenant_id, key.id).last_used_at

    uses = [KeyUse(database), KeyUse(database)]
    uses[0].note(key.id)
    assert used_at() is None
    uses[0].write()
    first = used_at()
    uses[1].note(key.id)
    uses[1].write()

    assert first is not None
    assert used_at() == first
