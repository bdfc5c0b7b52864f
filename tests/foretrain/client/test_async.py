"""What is written once must work awaited too: every kind of call, and none that holds up the event loop."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import pytest

from core.jobs.schemas import JobCreate
from foretrain.client import AsyncClient, ServiceProblem
from tests.foretrain.client.test_calls import CSV, MAPPING, TRAINING
from tests.foretrain.serving import CHECKPOINT, Running


def test_from_an_upload_to_a_job_that_is_listed_and_cancelled(running: Running) -> None:
    async def go() -> tuple[list[str], str]:
        async with AsyncClient(running.url, running.key) as client:
            uploaded = await client.upload_dataset(BytesIO(CSV.encode()), "csv", mapping=MAPPING)
            dataset = await client.await_dataset(uploaded.id)
            job = await client.submit(JobCreate(dataset_id=dataset.id, training=TRAINING))
            listed = [each.id async for each in client.list_jobs(page_size=1)]
            return listed, (await client.cancel(job.id)).id

    listed, cancelled = asyncio.run(go())

    assert listed[0] == cancelled


def test_many_jobs_are_awaited_at_once(running: Running) -> None:
    waiting = [running.start_job() for _ in range(3)]

    async def go() -> list[str]:
        async with AsyncClient(running.url, running.key) as client:
            waits = [asyncio.create_task(client.wait(job.id, timeout_seconds=30)) for job in waiting]
            await asyncio.sleep(0)
            for job in waiting:
                await asyncio.to_thread(running.end_job, job)
            return [job.status for job in await asyncio.gather(*waits)]

    assert asyncio.run(go()) == ["succeeded"] * 3


def test_downloads_side_by_side_are_verified(running: Running, finished_job: str, tmp_path: Path) -> None:
    async def go() -> None:
        async with AsyncClient(running.url, running.key) as client:
            await asyncio.gather(
                *(client.download(finished_job, "model.ckpt", tmp_path / name) for name in ("one", "two"))
            )

    asyncio.run(go())

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == CHECKPOINT


def test_a_refusal_is_the_same_exception(running: Running) -> None:
    async def go() -> None:
        async with AsyncClient(running.url, running.key) as client:
            await client.get_job("job_unknown")

    with pytest.raises(ServiceProblem, match="not_found"):
        asyncio.run(go())
