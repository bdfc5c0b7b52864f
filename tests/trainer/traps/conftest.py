"""The same frames, taken our way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.trainer.traps.stock_way import ENCODER, HORIZON, ODD_NAMES, fleet
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.prepare import prepare
from trainer.recipe import DatasetFile, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def file_of(frame: pd.DataFrame, path: Path) -> DatasetFile:
    """The frame as a customer would send it: without the numbered steps."""
    table = pa.Table.from_pandas(frame.drop(columns="time_idx"), preserve_index=False)
    pq.write_table(table, path)
    mapping = DatasetMapping(group_columns=["server"])
    return DatasetFile(path, "parquet", mapping, inspect(path, "parquet", mapping))


@pytest.fixture
def our_way(tmp_path: Path, make_spec: Callable[..., Any], plain_cpu: Any) -> Callable[..., Any]:
    """Prepare a run on the frame; keyword arguments change the spec."""

    def build(frame: pd.DataFrame, **changes: Any) -> Any:
        sizes = {"encoder_length": ENCODER, "horizon": HORIZON, "dropout": 0.0}
        return prepare(make_spec(**(sizes | changes)), file_of(frame, tmp_path / "data.parquet"), plain_cpu)

    return build


@pytest.fixture
def without_onednn() -> Iterator[None]:
    """OneDNN's LSTM knows half precision only on processors that have it."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.fixture
def empty_working_directory(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    (tmp_path / "work").mkdir()
    os.chdir(tmp_path / "work")
    yield tmp_path / "work"
    os.chdir(before)


def odd_fleet() -> pd.DataFrame:
    """Names no library likes, whole numbers, a disk that never moves, bytes with a gap of 20 steps."""
    frame = fleet(3, 90, seed=4, metrics=ODD_NAMES)
    frame["cpu"] = frame["cpu"].round().astype("int64")
    frame["type"] = frame["server"].map({"server-0": 70.0, "server-1": 71.5, "server-2": 12.0})
    frame["half"] /= 100
    frame["net.in"] *= 1e8
    frame.loc[30:50, "net.in"] = np.nan
    return frame


class OddRun:
    """One finished training of the odd fleet, and what stood in the working directory after it."""

    def __init__(self, frame: pd.DataFrame, out: Path, observer: Any, result: Any, strays: list[str]) -> None:
        self.frame, self.out_dir, self.observer, self.result = frame, out, observer, result
        self.strays = strays


@pytest.fixture(scope="session")
def odd_run(
    tmp_path_factory: pytest.TempPathFactory,
    make_spec: Callable[..., Any],
    make_observer: Callable[[], Any],
    plain_cpu: Any,
) -> OddRun:
    """Everything at once: four odd targets, half precision asked for on a CPU, a partial last group."""
    folder, frame, observer = tmp_path_factory.mktemp("odd"), odd_fleet(), make_observer()
    data = file_of(frame, folder / "data.parquet")
    (folder / "work").mkdir()
    before = Path.cwd()
    os.chdir(folder / "work")
    try:
        spec = make_spec(
            target_metrics=ODD_NAMES,
            encoder_length=ENCODER,
            horizon=HORIZON,
            epochs=3,
            precision="16-mixed",
            accumulate_grad_batches=4,
            log_every_n_steps=1,
            learning_rate=0.003,
        )
        result = train(spec, data, folder / "out", observer, hardware=plain_cpu)
        strays = [path.name for path in (folder / "work").iterdir()]
    finally:
        os.chdir(before)
    return OddRun(frame, folder / "out", observer, result.result, strays)
