"""Small fleets, specs and observers for the trainer's tests."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.trainer.stock_script import StockLibraries, loaded_stock_libraries
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import SeriesData
from trainer.hardware import Hardware
from trainer.prepare import PreparedRun, prepare
from trainer.recipe import DatasetFile, TrainingResult, train
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from trainer.events import TrainerEvent, Wish

START_US = 1_700_000_100_000_000  # a multiple of the frequency
FREQUENCY_SECONDS = 300.0

PLAIN_CPU = Hardware(
    cuda_capability=None, cuda_device=None, cpu_flags=frozenset(), cpu="plain processor", cores=2
)


@dataclass
class ListObserver:
    """Remembers events; wishes what it is told to, from a given optimizer step on."""

    wish: Wish | None = None
    at_step: int = 0
    events: list[TrainerEvent] = field(default_factory=list)

    def report(self, event: TrainerEvent) -> None:
        self.events.append(event)

    def stop_wish(self) -> Wish | None:
        seen = [event.step for event in self.events if event.type in {"metrics", "progress"}]
        return self.wish if max(seen, default=-1) >= self.at_step else None

    def of_type(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]


def fleet(lengths: Sequence[int], columns: Sequence[str] = ("cpu_percent",), seed: int = 0) -> SeriesData:
    """Series of these lengths: a daily wave of its own per series and column, with noise."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    steps = np.concatenate([np.arange(length) for length in lengths])
    rows = len(steps)
    level = np.repeat(random.uniform(10, 60, len(lengths)), lengths)
    values = {
        name: (level + 5 * np.sin(2 * np.pi * steps / 24 + index) + random.normal(0, 1, rows)).astype(
            np.float32
        )
        for index, name in enumerate(columns)
    }
    names = [f"server-{index:02d}" for index in range(len(lengths))]
    return SeriesData(
        series_names=names,
        offsets=offsets,
        times=(START_US + steps * int(FREQUENCY_SECONDS * 1e6)).astype(np.int64),
        frequency_seconds=FREQUENCY_SECONDS,
        values=values,
        observed={name: np.ones(rows, dtype=bool) for name in columns},
        categories={"server": names},
        findings=[],
    )


def small_spec(**changes: Any) -> TrainingSpec:
    """A network and a run that take a second."""
    smallest: dict[str, Any] = {
        "target_metrics": ["cpu_percent"],
        "encoder_length": 6,
        "horizon": 3,
        "hidden_size": 8,
        "hidden_continuous_size": 4,
        "attention_head_size": 2,
        "quantiles": [0.1, 0.5, 0.9],
        "epochs": 1,
        "batch_size": 16,
        "known_covariates": ["hour_of_day"],
        "static_categoricals": ["server"],
    }
    return TrainingSpec(**(smallest | changes))


def dataset_file(series: SeriesData, path: Path) -> DatasetFile:
    """The series as a Parquet file, inspected. A series called "all" needs no column to name it."""
    place = np.repeat(np.arange(series.n_series), series.lengths)
    columns: dict[str, Any] = {"timestamp": pa.array(series.times, pa.timestamp("us", tz="UTC"))}
    if series.series_names != ["all"]:
        columns["server"] = [series.series_names[i] for i in place]
    for name, values in series.values.items():
        columns[name] = pa.array(values, mask=~series.observed[name])
    pq.write_table(pa.table(columns), path)
    return DatasetFile(path, "parquet", DatasetMapping(), inspect(path, "parquet", DatasetMapping()))


@contextmanager
def undrawn() -> Iterator[None]:
    """Runs without the figures of their report: those take nine tenths of a small run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.artifacts.write_report", lambda path, _: path.write_text("", encoding="utf-8"))
        yield


@pytest.fixture(scope="module")
def _undrawn() -> Iterator[None]:
    with undrawn():
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Threads that wait for each other make a network of this size several times slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def make_series() -> Callable[..., SeriesData]:
    return fleet


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., TrainingSpec]:
    return small_spec


@pytest.fixture(scope="session")
def make_observer() -> type[ListObserver]:
    return ListObserver


@pytest.fixture(scope="session")
def make_dataset() -> Callable[[SeriesData, Path], DatasetFile]:
    return dataset_file


@pytest.fixture(scope="session")
def plain_cpu() -> Hardware:
    return PLAIN_CPU


@dataclass(frozen=True)
class Trained:
    """A finished run: what it was given, what it said, what it left."""

    data: DatasetFile
    spec: TrainingSpec
    out_dir: Path
    observer: ListObserver
    result: TrainingResult


@pytest.fixture(scope="session")
def run_training(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Train on a small fleet on a plain CPU; keyword arguments change the spec. An empty file stands for the
    report unless it is asked for.
    """

    def run(
        series: SeriesData,
        *,
        report: bool = False,
        observer: ListObserver | None = None,
        hardware: Hardware = PLAIN_CPU,
        **changes: Any,
    ) -> Trained:
        folder = tmp_path_factory.mktemp("run")
        data, spec = dataset_file(series, folder / "data.parquet"), small_spec(**changes)
        watcher = observer or ListObserver()
        with nullcontext() if report else undrawn():
            result = train(spec, data, folder / "out", watcher, hardware=hardware)
        return Trained(data, spec, folder / "out", watcher, result)

    return run


@pytest.fixture(scope="session")
def two_targets(run_training: Callable[..., Trained]) -> Trained:
    """Two metrics with names that pytorch-forecasting chokes on, one with a gap, one series too short."""
    series = fleet([90, 80, 70, 12], ("cpu", "net.in"))
    series.observed["net.in"][20:30] = False
    changes = {"target_metrics": ["cpu", "net.in"], "epochs": 2, "accumulate_grad_batches": 4}
    return run_training(series, report=True, **changes)


@pytest.fixture(scope="session")
def stock_libraries() -> Iterator[StockLibraries]:
    with loaded_stock_libraries() as loaded:
        yield loaded


@pytest.fixture
def prepare_small(tmp_path: Path) -> Callable[..., PreparedRun]:
    """A prepared run on a small fleet; keyword arguments change the spec."""

    def build(columns: tuple[str, ...] = ("cpu_percent", "memory_percent"), **changes: Any) -> PreparedRun:
        data = dataset_file(fleet([60, 50], columns), tmp_path / "data.parquet")
        return prepare(small_spec(**({"target_metrics": list(columns)} | changes)), data, PLAIN_CPU)

    return build
