"""Who gives way when all places are taken."""

from __future__ import annotations

import asyncio
import time

import pytest

from api.problems import HttpProblem
from api.slots import PACE_BYTES, PACE_SECONDS, Slot, Slots


def dawdling_since(slot: Slot, seconds: float) -> None:
    slot._paced_at = time.monotonic() - seconds


def test_a_client_that_dawdles_gives_its_place_to_the_next() -> None:
    async def scenario() -> list[str]:
        slots, told = Slots(2), []

        async def transfer(name: str, dawdled_seconds: float) -> None:
            try:
                with slots.taken() as slot, slot.wait(60):
                    dawdling_since(slot, dawdled_seconds)
                    await asyncio.Event().wait()
            except TimeoutError:
                told.append(name)

        waiting = [
            asyncio.create_task(transfer("slow", PACE_SECONDS + 1)),
            asyncio.create_task(transfer("slower", PACE_SECONDS + 2)),
        ]
        await asyncio.sleep(0)
        with slots.taken():
            await waiting[1]
        waiting[0].cancel()
        return told

    assert asyncio.run(scenario()) == ["slower"]


def test_nobody_who_keeps_the_pace_or_waits_for_us_gives_way() -> None:
    async def scenario() -> None:
        slots = Slots(2)
        with slots.taken() as brisk, slots.taken() as served, brisk.wait(60):
            dawdling_since(brisk, PACE_SECONDS + 1)
            dawdling_since(served, PACE_SECONDS + 1)
            brisk.moved(PACE_BYTES)
            with pytest.raises(HttpProblem, match="Too many"), slots.taken():
                pass

    asyncio.run(scenario())
