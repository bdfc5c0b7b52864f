"""From POST to the first optimizer step in a whole service: python -m benchmarks.cold_service [--rounds 5]

`foretrain up` with a fleet uploaded and its trainer kept ready. Moments are seen in the service's folder, so
nothing is asked of the service while they pass. Seconds of the clock since the POST.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cold_start import SPEC, STEPS, cpu_seconds
from benchmarks.large_file import write_fleet
from core.jobs.schemas import JobCreate
from foretrain.client import Client

MOMENTS = {
    "answered": "POST answered",
    "mapping.json": "claimed, dataset fetched, inputs laid out",
    "out": "the child begins",
    "tensorboard": "first optimizer step reported",
}
LOADED_CPU_SECONDS = 1.0
STILL_CPU_SECONDS = 0.01
DEADLINE_SECONDS = 60.0
LOOK_SECONDS = 0.01


def follow_one_job(client: Client, dataset_id: str, folder: Path) -> dict[str, float]:
    """Seconds from the POST to each moment."""
    before = set(folder.rglob("*"))
    posted_at = time.monotonic()
    job = client.submit(JobCreate(dataset_id=dataset_id, training=SPEC))
    seen = {"answered": time.monotonic() - posted_at}
    while len(seen) < len(MOMENTS):
        if time.monotonic() - posted_at > DEADLINE_SECONDS:
            raise SystemExit("the job did not start")
        for path in set(folder.rglob("*")) - before:
            if path.name in MOMENTS:
                seen.setdefault(path.name, time.monotonic() - posted_at)
        time.sleep(LOOK_SECONDS)
    client.cancel(job.id)
    client.wait(job.id)
    return seen


def wait_for_standby(service: int) -> None:
    """Until a trainer is there and has loaded its libraries."""
    before = 0.0
    while True:
        spent = max((cpu_seconds(pid) for pid in _descendants(service) if _is_standby(pid)), default=0.0)
        if spent > LOADED_CPU_SECONDS and abs(spent - before) < STILL_CPU_SECONDS:
            return
        before = spent
        time.sleep(1.0)


def _is_standby(pid: int) -> bool:
    return b"trainer.warm" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for task in tasks for word in task.read_text(encoding="utf-8").split()]
    return [each for child in children for each in (child, *_descendants(child))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--servers", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name) / "data", Path(name) / "fleet.parquet"
        write_fleet(data, asked.servers, STEPS)
        command = [sys.executable, "-P", "-m", "foretrain", "up", "--data-dir", str(folder), "--port", "0"]
        service = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not (folder / "run" / "url").exists():
                time.sleep(0.1)
            url = (folder / "run" / "url").read_text(encoding="utf-8").strip()
            key = (folder / "api_key").read_text(encoding="utf-8").strip()
            rounds = []
            with Client(url, key) as client:
                dataset = client.await_dataset(client.upload_dataset(data, "parquet", name="fleet").id)
                for _ in range(asked.rounds):
                    wait_for_standby(service.pid)
                    rounds.append(follow_one_job(client, dataset.id, folder))
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(DEADLINE_SECONDS)
    print("| moment | first job s | least of the others s | greatest s |\n|---|---|---|---|")
    for moment, words in MOMENTS.items():
        first, *others = [each[moment] for each in rounds]
        print(f"| {words} | {first:.2f} | {min(others):.2f} | {max(others):.2f} |")


if __name__ == "__main__":
    main()
