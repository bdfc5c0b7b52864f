"""A job of the service on the screen on which a training of our own is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trainer.events import ProgressReported

if TYPE_CHECKING:
    from core.jobs.schemas import JobRead, Progress
    from foretrain.client import Client
    from foretrain.training_screen import TrainingScreen

_LOSSES = ["train_loss", "val_loss"]


def show_job(screen: TrainingScreen, client: Client, job: JobRead) -> None:
    """Its phase, its progress, and the losses, which are asked for."""
    screen.show_phase(job.phase or job.status)
    losses = client.read_metrics(job.id, _LOSSES)
    screen.show_losses({series.name: series.points[-1].value for series in losses if series.points})
    if job.progress is not None:
        screen.report(_as_event(job.progress))


def _as_event(progress: Progress) -> ProgressReported:
    eta = None if progress.eta_at is None else (progress.eta_at - datetime.now(UTC)).total_seconds()
    return ProgressReported(
        **progress.model_dump(exclude={"eta_at", "updated_at"}),
        eta_seconds=None if eta is None else max(0.0, eta),
    )
