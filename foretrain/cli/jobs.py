"""`foretrain jobs …`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretrain.cli.remote import (
    JOB_CANCELLED,
    JOB_FAILED,
    AsJson,
    remote_app,
    say,
    say_json,
    say_table,
    speaking,
)
from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from core.jobs.schemas import JobRead
    from foretrain.client import Client

app = remote_app("Training jobs of a service.")
JobId = Annotated[str, typer.Argument(help="`job_…`")]


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def submit(context: typer.Context) -> None:
    """Queue a job: --dataset, and the fields of a training spec as options or in a file (--spec)."""
    from foretrain.cli.submitting import build_command

    # Its options are the fields of TrainingSpec, read only now.
    build_command()(context.args, prog_name="foretrain jobs submit")


@app.command("list")
@speaking
def list_jobs(
    client: Client,
    status: Annotated[str | None, typer.Option(help="Only these, such as queued,running.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only with key:value; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    labels = dict(_label_of(each) for each in label or [])
    jobs = islice(client.list_jobs(status=(status or "").split(",") if status else (), labels=labels), limit)
    if as_json:
        for job in jobs:
            say_json(job)
        return
    say_table(
        ["id", "name", "status", "progress", "created"],
        ([job.id, job.name, job.status, _percent(job), f"{job.created_at:%Y-%m-%d %H:%M}"] for job in jobs),
    )


@app.command()
@speaking
def show(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Show one job."""
    _show(client.get_job(job_id), as_json=as_json)


@app.command()
@speaking
def watch(
    client: Client,
    job_id: JobId,
    as_json: AsJson = False,
    poll_seconds: Annotated[float, typer.Option(min=0.1, help="Between two looks.")] = 1.0,
) -> None:
    """Show a job while it runs: phase, losses, ETA. Ctrl-C stops watching, not the job."""
    if as_json:
        for job in client.watch(job_id, poll_seconds=poll_seconds):
            say_json(job)
    else:
        from rich.console import Console

        from foretrain.job_screen import show_job
        from foretrain.training_screen import TrainingScreen

        with TrainingScreen(Console(stderr=True)) as screen:
            for job in client.watch(job_id, poll_seconds=poll_seconds):
                show_job(screen, client, job)
        _show(job, as_json=False)
    _exit_as(job)


@app.command()
@speaking
def wait(
    client: Client,
    job_id: JobId,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; then exit with 6.")] = None,
    as_json: AsJson = False,
) -> None:
    """Wait for a job's end, without a word until then; the exit code says how it ended."""
    job = client.wait(job_id, timeout_seconds=timeout)
    _show(job, as_json=as_json)
    _exit_as(job)


@app.command()
@speaking
def cancel(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Save and stop a job for good."""
    _show(client.cancel(job_id), as_json=as_json)


@app.command()
@speaking
def pause(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Save a job and free its worker."""
    _show(client.pause(job_id), as_json=as_json)


@app.command()
@speaking
def resume(client: Client, job_id: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on."""
    _show(client.resume(job_id), as_json=as_json)


@app.command()
@speaking
def retry(
    client: Client,
    job_id: JobId,
    from_checkpoint: Annotated[
        bool, typer.Option("--from-checkpoint", help="Go on from its last stored state, if any.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Queue a job again that failed or was cancelled."""
    _show(client.retry(job_id, "checkpoint" if from_checkpoint else "beginning"), as_json=as_json)


@app.command()
@speaking
def logs(
    client: Client, job_id: JobId, attempt: Annotated[int | None, typer.Option(help="Default: all.")] = None
) -> None:
    """Print what the trainer wrote."""
    for chunk in client.read_log(job_id, attempt=attempt):
        sys.stdout.write(chunk.text)


@app.command()
@speaking
def metrics(
    client: Client,
    job_id: JobId,
    name: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print losses, rates and speed by optimizer step."""
    series = client.read_metrics(job_id, name)
    if as_json:
        for one in series:
            say_json(one)
        return
    say_table(
        ["name", "step", "epoch", "value"],
        ([one.name, point.step, point.epoch, point.value] for one in series for point in one.points),
    )


@app.command()
@speaking
def download(
    client: Client,
    job_id: JobId,
    name: Annotated[list[str] | None, typer.Argument(help="Files, such as model.ckpt. Default: all.")] = None,
    folder: Annotated[Path, typer.Option(help="Where to.")] = Path(),
) -> None:
    """Download a job's files and check them; what was interrupted goes on where it stopped."""
    from foretrain.transfer_bar import transfer_bar

    sizes = {artifact.name: artifact.size_bytes for artifact in client.list_artifacts(job_id)}
    folder.mkdir(parents=True, exist_ok=True)
    for each in name or sizes:
        with transfer_bar(each, sizes.get(each)) as advance:
            done = client.download(job_id, each, folder / each, on_bytes=advance)
        say(f"{done.path} ({done.size_bytes:,} bytes, sha256 {done.sha256})")


@app.command()
@speaking
def delete(client: Client, job_id: JobId) -> None:
    """Remove a job that has ended, with its files."""
    client.delete_job(job_id)


def _show(job: JobRead, *, as_json: bool) -> None:
    if as_json:
        say_json(job)
        return
    say(f"{job.id} {job.status}" + ("" if job.status_reason is None else f": {job.status_reason.message}"))


def _label_of(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not (key and colon):
        raise Refusal(f"--label takes key:value, such as team:edge, not {text!r}")
    return key, value


def _percent(job: JobRead) -> str:
    return "" if job.progress is None else f"{job.progress.fraction:.0%}"


def _exit_as(job: JobRead) -> None:
    code = {"failed": JOB_FAILED, "cancelled": JOB_CANCELLED}.get(job.status)
    if code is not None:
        raise typer.Exit(code)
