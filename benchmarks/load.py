"""The service under load: 10,000 jobs wait, a thousand or a million have ended.

Measures what the HTTP interface answers in one process, how quickly workers get jobs, and memory. SQLite by
default; `--postgres URL` names an empty Postgres database to measure as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load_http import Timing, ask, drive, request
from benchmarks.load_rows import COMMON, RARE, Populated, add_jobs, open_populated
from benchmarks.load_servers import Server, run_api
from core.jobs import service
from core.jobs.lifecycle import JobStatus
from core.jobs.schemas import MetricReport

CONNECTIONS = 16
JSON = {"Content-Type": "application/json"}
METRIC_STEPS = 1000
ARTIFACT_BYTES = 1024**2


@dataclass(frozen=True)
class Operation:
    """One kind of request and the status it is answered with."""

    name: str
    asked: bytes
    expected: int = 200
    connections: int = CONNECTIONS


async def operations(server: Server, place: Populated) -> list[Operation]:
    """All that is measured."""
    key = {"Authorization": f"Bearer {place.key}"}
    queued, running = place.templates[JobStatus.QUEUED], place.running.job_id

    def get(path: str, **headers: str) -> bytes:
        return request("GET", path, key | headers)

    async def etag(path: str) -> str:
        return (await ask(server.port, get(path))).headers["etag"]

    async def second_page(path: str) -> bytes:
        cursor = json.loads((await ask(server.port, get(path))).body)["next_cursor"]
        return get(f"{path}&cursor={cursor}")

    training = {"target_metrics": ["cpu_percent"], "epochs": 3}
    job = {"dataset_id": place.dataset_id, "training": training, "labels": dict([COMMON])}
    labels = {name: f"label={key}:{value}" for name, (key, value) in {"common": COMMON, "rare": RARE}.items()}
    both = "&".join(labels.values())
    held = {"If-None-Match": await etag(f"/v1/jobs/{running}")}
    held_queued = {"If-None-Match": await etag(f"/v1/jobs/{queued}")}
    return [
        Operation("create", request("POST", "/v1/jobs", key | JSON, json.dumps(job).encode()), 201, 1),
        Operation("poll, full, running", get(f"/v1/jobs/{running}")),
        Operation("poll, full, queued", get(f"/v1/jobs/{queued}")),
        Operation("poll, 304, running", get(f"/v1/jobs/{running}", **held), 304),
        Operation("poll, 304, queued", get(f"/v1/jobs/{queued}", **held_queued), 304),
        Operation("list", get("/v1/jobs?limit=20")),
        Operation("list, second page", await second_page("/v1/jobs?limit=20")),
        Operation("list, oldest first", get("/v1/jobs?limit=20&sort=created_at")),
        Operation("list, queued", get("/v1/jobs?limit=20&status=queued")),
        Operation("list, ended", get("/v1/jobs?limit=20&status=succeeded,failed")),
        Operation("list, common label", get(f"/v1/jobs?limit=20&{labels['common']}")),
        # One job: a thousand ended ones have no more, and a longer page takes longer whatever is behind it.
        Operation("list of 1, rare label", get(f"/v1/jobs?limit=1&{labels['rare']}")),
        Operation("list of 1, ended, both labels", get(f"/v1/jobs?limit=1&status=succeeded&{both}")),
        Operation("metrics, 2 series of 1000", get(f"/v1/jobs/{running}/metrics")),
        Operation("download, 1 MiB", get(f"/v1/jobs/{running}/artifacts/model.ckpt")),
    ]


def fill(place: Populated, folder: Path) -> None:
    """Metrics and a file of the running job."""
    reports = [
        MetricReport(step=step, epoch=0, values={"train_loss": 1.0, "val_loss": 2.0})
        for step in range(METRIC_STEPS)
    ]
    with place.db.sessions.begin() as session:
        service.record_metrics(session, place.running.job_id, place.running.token, reports)
    file = folder / "model.ckpt"
    file.write_bytes(bytes(ARTIFACT_BYTES))
    place.store_artifact(file)


async def measure(server: Server, place: Populated, requests: int) -> dict[str, Timing]:
    """Each operation, after a few that warm it up."""
    timings: dict[str, Timing] = {}
    for one in await operations(server, place):
        print(f"  {one.name} …", file=sys.stderr, flush=True)
        for count in (max(requests // 10, 1), requests):
            timings[one.name] = await drive(
                server.port,
                [one.asked] * count,
                connections=min(one.connections, count),
                expected=one.expected,
                processor=server.processor_seconds,
            )
    return timings


def claims_per_second(place: Populated, claims: int, workers: int) -> float:
    """How many jobs as many workers get, each a transaction of its own."""
    left = [claims]
    lock = threading.Lock()

    def work(name: str) -> None:
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
            with place.db.sessions.begin() as session:
                if service.claim(session, "cpu", name, lease_seconds=3600) is None:
                    raise LookupError("nothing is left to claim")

    threads = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in range(workers)]
    started_at = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return claims / (time.perf_counter() - started_at)


def report(few: dict[str, Timing], many: dict[str, Timing], finished: Sequence[int]) -> None:
    """A row for each operation; the ratio is of the server's processor time, which no neighbour disturbs."""
    print(
        f"| request | {finished[0]:,} ended: p50 ms | p99 ms | processor ms | {finished[1]:,} ended: p50 ms "
        "| p99 ms | processor ms | requests/s | ratio of processor ms |"
    )
    print("|---|" + "---|" * 8)
    for name, before in few.items():
        after = many[name]
        cells = [
            *(f"{value:.1f}" for one in (before, after) for value in _figures(one)),
            f"{after.per_second:.0f}",
            f"{after.processor_ms / before.processor_ms:.2f}",
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _figures(timing: Timing) -> tuple[float, float, float]:
    return timing.percentile_ms(50), timing.percentile_ms(99), timing.processor_ms


def load(url: str, folder: Path, arguments: argparse.Namespace) -> None:
    """One database's table."""
    with open_populated(url, folder) as place, run_api(url, folder) as server:
        fill(place, folder)
        add_jobs(place, JobStatus.QUEUED, 1, arguments.queued)
        first = 2**28
        add_jobs(place, JobStatus.SUCCEEDED, first, arguments.few)
        few = asyncio.run(measure(server, place, arguments.requests))
        started_at = time.perf_counter()
        add_jobs(place, JobStatus.SUCCEEDED, first + arguments.few, arguments.many - arguments.few)
        print(
            f"{arguments.many - arguments.few:,} rows in {time.perf_counter() - started_at:.0f} s", flush=True
        )
        memory_before = server.memory_bytes()
        many = asyncio.run(measure(server, place, arguments.requests))
        report(few, many, (arguments.few, arguments.many))
        memory = [size / 1e6 for size in (memory_before, server.memory_bytes())]
        print(f"\nMemory of the API: {memory[0]:.0f} MB before, {memory[1]:.0f} MB after the second half.")
        rate = claims_per_second(place, arguments.claims, workers=4)
        print(f"Dispatch, {arguments.queued:,} waiting, 4 workers: {rate:.0f} claims a second.", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", help="URL of an empty database")
    parser.add_argument("--no-sqlite", action="store_true")
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=1_000, help="ended jobs at first")
    parser.add_argument("--many", type=int, default=1_000_000, help="ended jobs in the end")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--claims", type=int, default=200)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ft-load-") as name:
        folder = Path(name)
        if not arguments.no_sqlite:
            print("SQLite\n")
            (folder / "sqlite").mkdir()
            load(f"sqlite:///{folder / 'sqlite' / 'foretrain.db'}", folder / "sqlite", arguments)
        if arguments.postgres:
            print("\nPostgres\n")
            (folder / "postgres").mkdir()
            load(arguments.postgres, folder / "postgres", arguments)


if __name__ == "__main__":
    main()
