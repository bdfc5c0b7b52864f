"""A training run in the terminal: phases, a bar with loss and ETA, and whatever was decided differently."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn

from trainer.events import (
    MetricsReported,
    PhaseStarted,
    ProgressReported,
    Resolved,
    TrainerEvent,
    Warned,
)

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.events import Adjustment, Wish

_SECONDS_PER_MINUTE = 60
_LOSSES = ("train_loss", "val_loss")


class TrainingScreen:
    """Hears the events of one run, of ours or of the service's, and shows them while the context lasts.

    It is also the observer of a run in this process: `wish_to_stop` makes it end after its optimizer step.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=False,
        )
        self._task = self._progress.add_task("starting", total=1.0, detail="")
        self._losses: dict[str, float] = {}
        self._latest: ProgressReported | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def wish_to_stop(self) -> None:
        self._stop.set()

    def stop_wish(self) -> Wish | None:
        return "cancel" if self._stop.is_set() else None

    def report(self, event: TrainerEvent) -> None:
        match event:
            case PhaseStarted():
                self.show_phase(event.phase)
            case Resolved():
                for adjustment in event.adjustments:
                    self._say(sentence_of(adjustment))
                self._say(f"{event.parameters:,} parameters, {event.windows['train']:,} training windows")
            case Warned():
                self._say(f"Warning: {event.message}")
            case MetricsReported():
                self.show_losses({name: event.values[name] for name in _LOSSES if name in event.values})
                if "val_loss" in event.values and not self._console.is_terminal:
                    self._say(f"epoch {event.epoch}: {self._shown_losses()}")  # a bar is no use in a file
            case ProgressReported():
                self._latest = event
                self._draw()
            case _:
                pass

    def show_phase(self, phase: str) -> None:
        self._progress.update(self._task, description=phase)

    def show_losses(self, losses: dict[str, float | None]) -> None:
        self._losses |= {name: value for name, value in losses.items() if value is not None}
        self._draw()

    def _say(self, line: str) -> None:
        self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> None:
        fraction = 0.0 if self._latest is None else self._latest.fraction
        self._progress.update(self._task, completed=fraction, detail="  ".join(self._parts()))

    def _parts(self) -> list[str]:
        latest = self._latest
        parts = [] if latest is None else [f"epoch {latest.epoch}/{latest.epochs}"]
        parts.append(self._shown_losses())
        if latest is not None and latest.eta_seconds is not None:
            parts.append(f"ETA {format_duration(latest.eta_seconds)}")
        return parts

    def _shown_losses(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self._losses.items())


def format_duration(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    minutes, rest = divmod(round(seconds), _SECONDS_PER_MINUTE)
    return f"{minutes}:{rest:02d}"


def sentence_of(adjustment: Adjustment) -> str:
    """What is done otherwise, and why."""
    asked = "" if adjustment.requested is None else f"{_show(adjustment.requested)} -> "
    return f"{adjustment.field}: {asked}{_show(adjustment.effective)} ({adjustment.reason})"


def _show(value: object) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
