"""Where the doctor trains: small runs of the real trainer, each measured."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretrain.doctor import fleet, memory
from foretrain.doctor.thread_times import seconds_by_thread
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.events import TrainerEvent, Wish
    from trainer.hardware import Hardware
    from trainer.recipe import DatasetFile

EPOCHS = 2
SMALL: dict[str, Any] = {
    "target_metrics": ["cpu_percent"],
    "encoder_length": 12,
    "horizon": 4,
    "hidden_size": 8,
    "hidden_continuous_size": 4,
    "attention_head_size": 2,
    "quantiles": [0.1, 0.5, 0.9],
    "known_covariates": ["hour_of_day"],
    "epochs": EPOCHS,
    "batch_size": 64,
    "learning_rate": 0.02,
    "log_every_n_steps": 1,
}


class NotProven(Exception):
    """A feature that does not do what was asked of it; the message says what was seen instead."""


class NotPossibleHere(Exception):
    """A feature that this machine gives no way to try."""


def require(holds: bool, otherwise: str) -> None:
    """Raise NotProven, saying what was seen, unless it holds."""
    if not holds:
        raise NotProven(otherwise)


@dataclass
class Recorder:
    """The observer of one run: keeps its events, and ends it after an optimizer step if it is told to."""

    stop_after_step: int | None = None
    events: list[TrainerEvent] = field(default_factory=list)
    thread_seconds: dict[str, dict[int, float]] = field(default_factory=dict)  # at the start of each phase

    def report(self, event: TrainerEvent) -> None:
        self.events.append(event)
        if event.type == "phase":
            self.thread_seconds[event.phase] = seconds_by_thread()

    def stop_wish(self) -> Wish | None:
        if self.stop_after_step is None:
            return None
        last = max((event.step for event in self.events if event.type == "metrics"), default=0)
        return "pause" if last >= self.stop_after_step else None


@dataclass(frozen=True)
class Run:
    """One training: what it left, what it said, what it took. `result` is None where it was stopped."""

    folder: Path
    events: list[Any]
    result: dict[str, Any] | None
    seconds: float
    peak_bytes: int | None  # above the libraries alone
    peak_gpu_bytes: int | None
    training_seconds_by_thread: tuple[float, ...] = ()  # of CPU, the busiest first; empty if unknown

    @property
    def finished(self) -> dict[str, Any]:
        """The content of result.json. Raises NotProven if the run was stopped."""
        if self.result is None:
            raise NotProven("the run ended without a result")
        return self.result

    @property
    def val_loss(self) -> float | None:
        return None if self.result is None else float(self.result["best"]["val_loss"])

    @property
    def windows_per_second(self) -> float | None:
        """Windows trained on per second, validation left out."""
        speeds = [event.windows_per_second for event in self.of_type("progress")]
        return speeds[-1] if speeds else None

    def of_type(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    def adjustments_of(self, name: str) -> list[dict[str, Any]]:
        """What was changed about a field of the spec, in order."""
        return [entry for entry in self.finished["adjustments"] if entry["field"] == name]

    def points(self, name: str) -> list[tuple[int, float | None]]:
        """Step and value of each time that a metric was reported."""
        return [(event.step, event.values[name]) for event in self.of_type("metrics") if name in event.values]


class Lab:
    """Trains in folders of its own below `folder`; torch is loaded when it is made.

    Small networks are trained with one thread: several would mostly wait for each other.
    """

    def __init__(self, folder: Path) -> None:
        _load_libraries()
        from trainer.hardware import detect_hardware

        self.folder = folder
        self.hardware: Hardware = detect_hardware()
        self.import_bytes = memory.resident_bytes()
        self.import_own_bytes = memory.own_bytes()
        self._runs = 0

    @property
    def exact(self) -> dict[str, Any]:
        """What makes a run bit for bit repeatable: GPUs add up in any order."""
        return {} if self.hardware.cuda_capability is None else {"accelerator": "cpu"}

    @cached_property
    def data(self) -> DatasetFile:
        return fleet.write_fleet(self.folder)

    @cached_property
    def data_of_many(self) -> DatasetFile:
        return fleet.write_large_fleet(self.folder)

    @cached_property
    def data_with_gaps(self) -> DatasetFile:
        return fleet.write_fleet_with_gaps(self.folder)

    @cached_property
    def plain(self) -> Run:
        """The run that the others are held against."""
        return self.train(**self.exact)

    def warm_up(self) -> None:
        """What happens once in a process happens here, and not in the first run that is measured."""
        self.train(max_steps=1)

    def train(
        self,
        *,
        data: DatasetFile | None = None,
        threads: int = 1,
        stop_after_step: int | None = None,
        resume_from: Run | None = None,
        **changes: Any,
    ) -> Run:
        """Train for real; `changes` are those of SMALL. Raises what the trainer raises."""
        return self.train_as(
            small_spec(**changes),
            data=data,
            threads=threads,
            stop_after_step=stop_after_step,
            resume_from=resume_from,
        )

    def train_as(
        self,
        spec: TrainingSpec,
        *,
        data: DatasetFile | None = None,
        threads: int = 1,
        stop_after_step: int | None = None,
        resume_from: Run | None = None,
    ) -> Run:
        """As `train`, with a spec of its own."""
        import torch

        from trainer.keeping import RESUME_STATE
        from trainer.recipe import train

        out, observer = self.new_folder(), Recorder(stop_after_step)
        state = None if resume_from is None else resume_from.folder / RESUME_STATE
        torch.set_num_threads(threads)
        self._measure_from_here()
        started_at = time.monotonic()
        ended = train(spec, data or self.data, out, observer, hardware=self.hardware, resume_from=state)
        return Run(
            folder=out,
            events=observer.events,
            result=ended.result,
            seconds=time.monotonic() - started_at,
            peak_bytes=self._peak_bytes(),
            peak_gpu_bytes=torch.cuda.max_memory_allocated() if self.has_gpu else None,
            training_seconds_by_thread=_seconds_between(observer.thread_seconds, "training", "validating"),
        )

    @property
    def has_gpu(self) -> bool:
        return self.hardware.cuda_capability is not None

    def new_folder(self) -> Path:
        """A folder for one run; made by whoever writes to it."""
        self._runs += 1
        return self.folder / f"run-{self._runs:02d}"

    def above_imports(self, peak: int | None) -> int | None:
        """What was taken beside the libraries."""
        return None if peak is None or self.import_bytes is None else max(peak - self.import_bytes, 0)

    def _measure_from_here(self) -> None:
        import torch

        from trainer.memory import release_memory

        release_memory()
        self._peak_is_known = memory.forget_peak()
        if self.has_gpu:
            torch.cuda.reset_peak_memory_stats()

    def _peak_bytes(self) -> int | None:
        return self.above_imports(memory.peak_bytes()) if self._peak_is_known else None


def _seconds_between(at: dict[str, dict[int, float]], first: str, then: str) -> tuple[float, ...]:
    before, after = at.get(first, {}), at.get(then, {})
    return tuple(sorted((after[thread] - before.get(thread, 0.0) for thread in after), reverse=True))


def small_spec(**changes: Any) -> TrainingSpec:
    """A network and a run that take about a second; None takes a field out of SMALL."""
    fields = {name: value for name, value in (SMALL | changes).items() if value is not None}
    return TrainingSpec(**fields)


def equal_weights(first: Run, second: Run, names: Iterable[str] = ("model.safetensors",)) -> list[str]:
    """The tensors that differ in a bit, or stand in one of the two alone."""
    import torch
    from safetensors.torch import load_file

    different = []
    for name in names:
        ours, theirs = load_file(first.folder / name), load_file(second.folder / name)
        different += sorted(ours.keys() ^ theirs.keys())
        different += [key for key in ours.keys() & theirs.keys() if not torch.equal(ours[key], theirs[key])]
    return different


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _load_libraries() -> None:
    """All that a run loads, so that no run is charged for it."""
    from trainer.threads import let_threads_sleep

    let_threads_sleep()
    os.environ.setdefault("MPLBACKEND", "Agg")

    import trainer.recipe  # noqa: F401 - for what it loads
