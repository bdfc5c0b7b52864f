"""A small fleet of invented servers, the same at every call: what the doctor trains on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from trainer.recipe import DatasetFile

SERVERS, STEPS, STEP_SECONDS = 3, 240, 300
MANY_SERVERS = 16  # enough of them for the share of values in an interval to mean something
TARGETS = ("cpu_percent", "memory_percent")
SEASON = 24  # steps of a wave
SEED = 20260105
START = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
# Rows taken out of every server: two short gaps that a line can bridge, and a long one.
GAPS = ((30, 2), (61, 3), (100, 8))
SHORT_GAP = 3  # steps; the longest that missing_policy=interpolate draws a line through
# A level that no trained server has: a forecast near it can only come from the server's own history.
NEW_SERVER, NEW_LEVEL = "new-server", 5000.0


def write_fleet(folder: Path) -> DatasetFile:
    """Two percentages of each server, with a wave, a level of its own and noise."""
    return _write(folder / "fleet.parquet", _fleet())


def write_large_fleet(folder: Path) -> DatasetFile:
    """MANY_SERVERS of the same kind."""
    return _write(folder / "large-fleet.parquet", _fleet(MANY_SERVERS))


def write_fleet_with_gaps(folder: Path) -> DatasetFile:
    """The same fleet without the rows of GAPS."""
    table = _fleet()
    step = np.tile(np.arange(STEPS), SERVERS)
    lost = np.any([(step >= first) & (step < first + length) for first, length in GAPS], axis=0)
    return _write(folder / "gaps.parquet", table.filter(pa.array(~lost)))


def write_recent(folder: Path) -> Path:
    """The fleet's last two seasons, and a server that nobody has trained on."""
    table = _fleet()
    recent = table.filter(pa.array(np.tile(np.arange(STEPS) >= STEPS - 2 * SEASON, SERVERS)))
    random = np.random.default_rng(SEED + 1)
    steps = np.arange(STEPS - 2 * SEASON, STEPS)
    values = {name: NEW_LEVEL + _wave(steps, 0) + random.normal(0, 1, len(steps)) for name in TARGETS}
    path = folder / "recent.parquet"
    pq.write_table(pa.concat_tables([recent, _rows(NEW_SERVER, steps, values)]), path)
    return path


def _fleet(servers: int = SERVERS) -> pa.Table:
    random = np.random.default_rng(SEED)
    steps = np.arange(STEPS)
    return pa.concat_tables(
        _rows(
            f"server-{number}",
            steps,
            {
                name: random.uniform(25, 60) + _wave(steps, place + number) + random.normal(0, 1, STEPS)
                for place, name in enumerate(TARGETS)
            },
        )
        for number in range(servers)
    )


def _wave(steps: npt.NDArray[np.int64], phase: float) -> npt.NDArray[np.float64]:
    wave: npt.NDArray[np.float64] = 10.0 * np.sin(2 * np.pi * steps / SEASON + phase)
    return wave


def _rows(server: str, steps: npt.NDArray[np.int64], values: dict[str, npt.NDArray[np.float64]]) -> pa.Table:
    stamps = pa.array(START + STEP_SECONDS * steps, pa.timestamp("s", "UTC"))
    return pa.table({"timestamp": stamps, "server": [server] * len(steps), **values})


def _write(path: Path, table: pa.Table) -> DatasetFile:
    from trainer.recipe import DatasetFile  # seconds of imports: torch

    pq.write_table(table, path)
    mapping = DatasetMapping()
    return DatasetFile(path, "parquet", mapping, inspect(path, "parquet", mapping))
