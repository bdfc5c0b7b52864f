"""`foretrain demo`: the whole path on real data, from upload to a forecast with the stock library."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from core.jobs.schemas import JobCreate
from foretrain.client import Client, ServiceProblem
from foretrain.job_screen import show_job
from foretrain.refusals import Refusal
from foretrain.sample_data import write_sample
from foretrain.scores import score_table
from foretrain.training_screen import TrainingScreen, sentence_of
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from core.jobs.schemas import JobRead

TARGETS = ["cpu_percent", "memory_percent"]
TRAINING = TrainingSpec(
    target_metrics=TARGETS,
    encoder_length=96,
    horizon=24,
    epochs=5,
    window_stride=2,
    batch_size=64,
    accumulate_grad_batches=2,
    hidden_size=16,
    hidden_continuous_size=8,
    attention_head_size=2,
    learning_rate=0.005,
    log_every_n_steps=1,
)
_MARK = ".foretrain-demo"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.5


class _BrokenOff(Exception):
    """Stands for a connection that breaks in the middle of a download."""


def run_demo(folder: Path) -> int:
    """Everything it makes is in `folder`; everything it starts has ended when it returns. Raises Refusal."""
    console = Console(highlight=False, soft_wrap=True)
    folder = folder.absolute()
    _prepare(folder)
    with running_service(console, folder) as (url, key), Client(url, key) as client:
        job = _train(console, client, folder)
        if job.status != "succeeded":
            reason = "" if job.status_reason is None else f": {job.status_reason.message}"
            raise Refusal(f"the job ended {job.status}{reason}")
        _download(console, client, job, folder / "download")
        result = client.get_result(job.id)
    _forecast_with_stock(console, folder / "download")
    console.print(score_table(result))
    console.print(f"The report: {folder / 'download' / 'report.html'}")
    console.print(f"All is stopped; `foretrain up --data-dir {folder / 'service'}` serves this job again.")
    return 0


def _prepare(folder: Path) -> None:
    if folder.exists():
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise Refusal(f"{folder} is not a folder of an earlier demo; name another with --folder")
        shutil.rmtree(folder)
    (folder / "download").mkdir(parents=True)
    (folder / _MARK).touch()


@contextmanager
def running_service(console: Console, folder: Path) -> Iterator[tuple[str, str]]:
    """`foretrain up` on a free port: its address and its key."""
    data_dir = folder / "service"
    command = [sys.executable, "-P", "-m", "foretrain", "up", "--data-dir", str(data_dir), "--port", "0"]
    with (folder / "service.log").open("w") as log:
        started_at = time.monotonic()
        service = subprocess.Popen(
            [*command, "--end-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            url = _await_url(service, data_dir / "run" / "url", folder / "service.log")
            console.print(f"1. The service runs on {url}, started in {time.monotonic() - started_at:.1f} s")
            yield url, (data_dir / "api_key").read_text().strip()
        finally:
            service.send_signal(signal.SIGTERM)
            try:
                service.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()


def _await_url(service: subprocess.Popen[bytes], url_file: Path, log: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while not url_file.exists():
        if service.poll() is not None or time.monotonic() > until:
            raise Refusal(f"the service did not start; {log} says why")
        time.sleep(_POLL_SECONDS / 10)
    return url_file.read_text().strip()


def _train(console: Console, client: Client, folder: Path) -> JobRead:
    sample = write_sample(folder / "alibaba2018.csv", "alibaba2018", 300)
    console.print(
        f"2. {sample.rows:,} rows of the real Alibaba 2018 trace, every {sample.seconds} s "
        f"({', '.join(sample.columns)})"
    )
    try:
        dataset = client.await_dataset(client.upload_dataset(sample.path, "csv", name="alibaba2018").id)
        job = client.submit(JobCreate(dataset_id=dataset.id, name="demo", training=TRAINING))
    except ServiceProblem as problem:
        raise Refusal(str(problem)) from problem
    console.print(f"3. Uploaded as {dataset.id}, submitted as {job.id}")
    return _follow(console, client, job.id)


def _follow(console: Console, client: Client, job_id: str) -> JobRead:
    """Shows the job until it has ended."""
    submitted_at = time.monotonic()
    first_step_seconds: float | None = None
    with TrainingScreen(console) as screen:
        for job in client.watch(job_id, poll_seconds=_POLL_SECONDS):
            show_job(screen, client, job)
            if first_step_seconds is None and job.progress is not None and job.progress.step > 0:
                first_step_seconds = time.monotonic() - submitted_at
    for adjustment in job.adjustments:
        console.print(f"   {sentence_of(adjustment)}", markup=False)
    console.print(
        f"4. Trained in {time.monotonic() - submitted_at:.0f} s; "
        f"the first step was seen {first_step_seconds or 0.0:.1f} s after the POST"
    )
    return job


def _download(console: Console, client: Client, job: JobRead, folder: Path) -> None:
    size_bytes = {artifact.name: artifact.size_bytes for artifact in client.list_artifacts(job.id)}

    def break_off(received: int) -> None:
        if received >= size_bytes["model.ckpt"] // 2:
            raise _BrokenOff

    with contextlib.suppress(_BrokenOff):
        client.download(job.id, "model.ckpt", folder / "model.ckpt", on_bytes=break_off)
    checkpoint = client.download(job.id, "model.ckpt", folder / "model.ckpt")
    console.print(
        f"5. Downloaded model.ckpt ({checkpoint.size_bytes:,} bytes), broken off, resumed with Range at byte "
        f"{checkpoint.resumed_at:,}; its sha256 {checkpoint.sha256[:16]}… is the one the service names"
    )
    for name in size_bytes.keys() - {"model.ckpt"}:
        client.download(job.id, name, folder / name)


def _forecast_with_stock(console: Console, folder: Path) -> None:
    console.print("6. stock_example.py opens it with pytorch-forecasting alone, in a process of its own:")
    example = subprocess.run(
        [sys.executable, "-P", "stock_example.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    for line in example.stdout.splitlines():
        console.print(f"   {line}", markup=False)
    if example.returncode != 0:
        raise Refusal(f"the stock library forecasts something else:\n{example.stderr[-2000:]}")
