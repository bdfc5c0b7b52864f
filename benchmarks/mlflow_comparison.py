"""Side by side with an MLflow tracking server: one process each, the same kind of database, in one run.

The two take turns in every round, so that what else happens on the machine hits both. Ours runs with
authentication and limits on; MLflow with neither. MLFLOW_PYTHON is the interpreter of an environment with
benchmarks/requirements-mlflow.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load_http import Timing, ask, drive, fetch, request, send_file
from benchmarks.load_rows import Populated, open_populated, write_random_parquet
from benchmarks.load_servers import Server, run_api, run_mlflow
from core.jobs import service
from core.jobs.schemas import MetricReport

CONNECTIONS = 16
POINTS = 100
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Duel:
    """What each did in each round, and how ours must stand to theirs at the least."""

    name: str
    goal: float
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    unit: str = "requests/s"
    ours_processor_ms: list[float] = field(default_factory=list)
    theirs_processor_ms: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.ours) / statistics.median(self.theirs)

    def note(self, ours: Timing, theirs: Timing) -> None:
        self.ours.append(ours.per_second)
        self.theirs.append(theirs.per_second)
        self.ours_processor_ms.append(ours.processor_ms)
        self.theirs_processor_ms.append(theirs.processor_ms)

    def row(self) -> str:
        figures = [f"{statistics.median(values):.4g}" for values in (self.ours, self.theirs)]
        processor = [
            f"{statistics.median(values):.2f}" if values else ""
            for values in (self.ours_processor_ms, self.theirs_processor_ms)
        ]
        cells = [self.name, *figures, self.unit, f"{self.ratio:.1f}", f"{self.goal:g}", *processor]
        return "| " + " | ".join(cells) + " |"


HEAD = (
    "| what | ours | MLflow | unit | ratio | at least | ours, processor ms | MLflow, processor ms |\n"
    "|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Ours:
    server: Server
    place: Populated

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.place.key}"}

    async def requests(self) -> dict[str, bytes]:
        """By the operation's name."""
        path = f"/v1/jobs/{self.place.running.job_id}"
        held = (await ask(self.server.port, request("GET", path, self.headers))).headers["etag"]
        training = {"target_metrics": ["cpu_percent"], "epochs": 3}
        job = {"dataset_id": self.place.dataset_id, "training": training, "labels": {"env": "prod"}}
        return {
            "poll": request("GET", path, {**self.headers, "If-None-Match": held}),
            "read": request("GET", path, self.headers),
            "create": request("POST", "/v1/jobs", self.headers | JSON, json.dumps(job).encode()),
        }

    def write_metrics(self, step: int) -> float:
        """Seconds for POINTS numbers, as a worker writes them: in a transaction of its own."""
        values = {f"metric_{number}": float(number) for number in range(10)}
        reports = [MetricReport(step=step + n, epoch=0, values=values) for n in range(POINTS // 10)]
        running = self.place.running
        started_at = time.perf_counter()
        with self.place.db.sessions.begin() as session:
            service.record_metrics(session, running.job_id, running.token, reports)
        return time.perf_counter() - started_at


@dataclass(frozen=True)
class Theirs:
    server: Server
    run_id: str
    experiment_id: str

    def requests(self) -> dict[str, bytes]:
        """By the operation's name."""
        read = request("GET", f"/api/2.0/mlflow/runs/get?run_id={self.run_id}")
        new = {"experiment_id": self.experiment_id, "tags": [{"key": "env", "value": "prod"}]}
        return {
            "poll": read,
            "read": read,
            "create": request("POST", "/api/2.0/mlflow/runs/create", JSON, json.dumps(new).encode()),
        }

    async def write_metrics(self, step: int) -> float:
        """Seconds for POINTS numbers."""
        now = int(time.time() * 1000)
        metrics = [
            {
                "key": f"metric_{number % 10}",
                "value": float(number),
                "timestamp": now,
                "step": step + number // 10,
            }
            for number in range(POINTS)
        ]
        body = json.dumps({"run_id": self.run_id, "metrics": metrics}).encode()
        asked = request("POST", "/api/2.0/mlflow/runs/log-batch", JSON, body)
        started_at = time.perf_counter()
        answer = await ask(self.server.port, asked)
        if answer.status != 200:
            raise ValueError(f"MLflow refused metrics: {answer.body[:500]!r}")
        return time.perf_counter() - started_at


async def open_run(server: Server) -> Theirs:
    """An experiment with a run that has a few parameters and metrics, as ours has a spec and progress."""

    async def post(path: str, body: dict[str, object]) -> dict[str, dict[str, dict[str, str]]]:
        answer = await ask(
            server.port, request("POST", f"/api/2.0/mlflow/{path}", JSON, json.dumps(body).encode())
        )
        if answer.status != 200:
            raise ValueError(f"{path}: {answer.status} {answer.body[:500]!r}")
        content: dict[str, dict[str, dict[str, str]]] = json.loads(answer.body or b"{}")
        return content

    experiment_id = str((await post("experiments/create", {"name": "load"}))["experiment_id"])
    run = await post("runs/create", {"experiment_id": experiment_id})
    run_id = run["run"]["info"]["run_id"]
    now = int(time.time() * 1000)
    params = [{"key": f"parameter_{number}", "value": str(number)} for number in range(20)]
    metrics = [{"key": f"metric_{number}", "value": 1.0, "timestamp": now, "step": 0} for number in range(10)]
    await post("runs/log-batch", {"run_id": run_id, "params": params, "metrics": metrics})
    return Theirs(server, run_id, experiment_id)


async def compare_requests(ours: Ours, theirs: Theirs, rounds: int, requests: int) -> list[Duel]:
    """Reads at CONNECTIONS connections, creations one after another."""
    duels = {"poll": Duel("poll, 304", 10), "read": Duel("full read", 6), "create": Duel("create", 1)}
    our_requests, their_requests = await ours.requests(), theirs.requests()

    async def run(server: Server, asked: bytes, name: str, expected: int) -> Timing:
        connections = 1 if name == "create" else CONNECTIONS
        count = max(requests // 4, 10) if name == "create" else requests
        return await drive(
            server.port,
            [asked] * count,
            connections=connections,
            expected=expected,
            processor=server.processor_seconds,
        )

    statuses = {"poll": 304, "read": 200, "create": 201}
    for name, duel in duels.items():
        await run(ours.server, our_requests[name], name, statuses[name])
        await run(theirs.server, their_requests[name], name, 200)
        for _ in range(rounds):
            mine = await run(ours.server, our_requests[name], name, statuses[name])
            duel.note(mine, await run(theirs.server, their_requests[name], name, 200))
        print(duel.row(), flush=True)
    return list(duels.values())


async def compare_metrics(ours: Ours, theirs: Theirs, rounds: int) -> Duel:
    """POINTS numbers at once; ours as the worker writes them, into the database; theirs over HTTP."""
    duel = Duel(f"{POINTS} metric points", 1, unit="writes/s")
    for step in range(0, rounds * 5 * POINTS, POINTS):
        duel.ours.append(1 / ours.write_metrics(step))
        duel.theirs.append(1 / await theirs.write_metrics(step))
    print(duel.row(), flush=True)
    return duel


async def compare_downloads(ours: Ours, theirs: Theirs, rounds: int, file: Path) -> Duel:
    """The same bytes from both."""
    duel = Duel("download", 2, unit="MB/s")
    path = f"/api/2.0/mlflow-artifacts/artifacts/load/{file.name}"
    answer, _ = await send_file(
        theirs.server.port, "PUT", path, {"Content-Type": "application/octet-stream"}, file
    )
    if answer.status != 200:
        raise ValueError(f"MLflow took no artifact: {answer.body[:500]!r}")
    name = ours.place.store_artifact(file)
    mine = request("GET", f"/v1/jobs/{ours.place.running.job_id}/artifacts/{name}", ours.headers)
    for _ in range(rounds):
        for taken, port, asked in (
            (duel.ours, ours.server.port, mine),
            (duel.theirs, theirs.server.port, request("GET", path)),
        ):
            size_bytes, seconds = await fetch(port, asked)
            taken.append(size_bytes / seconds / 1e6)
    print(duel.row(), flush=True)
    return duel


async def compare_uploads(ours: Ours, theirs: Theirs, rounds: int, folder: Path, size_mib: int) -> list[Duel]:
    """From the first byte sent to the object stored; ours with its sha256, then with the inspection too."""
    duel = Duel(f"upload, {size_mib} MiB", 3, unit="MB/s")
    inspected = Duel(f"upload, {size_mib} MiB, inspected", 1, unit="MB/s")
    for number in range(rounds):
        file = write_random_parquet(folder / f"upload-{number}.parquet", size_mib, seed=number)
        size = file.stat().st_size / 1e6
        headers = ours.headers | {"Content-Type": "application/vnd.apache.parquet"}
        started_at = time.perf_counter()
        answer, seconds = await send_file(ours.server.port, "POST", "/v1/datasets", headers, file)
        if answer.status != 201:
            raise ValueError(f"our upload was answered {answer.status}: {answer.body[:500]!r}")
        await _await_inspection(ours, json.loads(answer.body)["id"])
        duel.ours.append(size / seconds)
        inspected.ours.append(size / (time.perf_counter() - started_at))
        path = f"/api/2.0/mlflow-artifacts/artifacts/load/{file.name}"
        answer, seconds = await send_file(theirs.server.port, "PUT", path, {}, file)
        duel.theirs.append(size / seconds)
        inspected.theirs.append(size / seconds)
        file.unlink()
    print(duel.row(), inspected.row(), sep="\n", flush=True)
    return [duel, inspected]


async def _await_inspection(ours: Ours, dataset_id: str) -> None:
    asked = request("GET", f"/v1/datasets/{dataset_id}", ours.headers)
    status = "inspecting"
    for _ in itertools.repeat(None):
        status = json.loads((await ask(ours.server.port, asked)).body)["status"]
        if status != "inspecting":
            return
        await asyncio.sleep(0.2)


async def compare(arguments: argparse.Namespace, folder: Path) -> None:
    for name in ("ours", "theirs"):
        (folder / name).mkdir()
    with (
        open_populated(f"sqlite:///{folder / 'ours' / 'foretrain.db'}", folder / "ours") as place,
        # An upload answers as soon as its bytes are stored; the inspection is waited for by itself.
        run_api(place.url, folder / "ours", inspection_wait_seconds="0.001") as server,
        run_mlflow(
            arguments.mlflow_python, folder / "theirs", f"sqlite:///{folder / 'theirs' / 'mlflow.db'}"
        ) as rival,
    ):
        ours, theirs = Ours(server, place), await open_run(rival)
        print(HEAD, flush=True)
        await compare_requests(ours, theirs, arguments.rounds, arguments.requests)
        await compare_metrics(ours, theirs, arguments.rounds)
        file = write_random_parquet(folder / "model.ckpt", arguments.download_mib, seed=99)
        await compare_downloads(ours, theirs, arguments.rounds, file)
        await compare_uploads(ours, theirs, min(arguments.rounds, 3), folder, arguments.upload_mib)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlflow-python", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400, help="in each round, of each")
    parser.add_argument("--download-mib", type=int, default=256)
    parser.add_argument("--upload-mib", type=int, default=128)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ft-load-") as folder:
        asyncio.run(compare(arguments, Path(folder)))


if __name__ == "__main__":
    main()
