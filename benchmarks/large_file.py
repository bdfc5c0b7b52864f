"""A large fleet as one sorted file, written a row group at a time: python -m benchmarks.large_file FILE

By default 10,000 servers with a day at steps of 10 seconds, 86,400,000 rows: `server, timestamp, cpu_percent,
memory_percent`, sorted by server and time, percentages with two decimals as agents report them. FILE ends in
.parquet or .csv. The numbers are made up; what counts is how many there are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS, STEPS, STEP_SECONDS = 10_000, 8_640, 10
START = np.datetime64("2026-03-01T00:00:00", "us")
SERVERS_A_GROUP = 100
SCHEMA = pa.schema(
    [
        ("server", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("cpu_percent", pa.float64()),
        ("memory_percent", pa.float64()),
    ]
)


def write_fleet(path: Path, servers: int = SERVERS, steps: int = STEPS) -> None:
    """Write the file; memory for one row group, whatever its size."""
    writer = pa_csv.CSVWriter if path.suffix == ".csv" else pq.ParquetWriter
    with writer(path, SCHEMA) as file:
        for table in _groups(servers, steps):
            file.write_table(table)


def _groups(servers: int, steps: int) -> Iterator[pa.Table]:
    random = np.random.default_rng(42)
    times = START + np.arange(steps) * np.timedelta64(STEP_SECONDS, "s")
    day = np.sin(2 * np.pi * np.arange(steps) * STEP_SECONDS / 86_400)
    for first in range(0, servers, SERVERS_A_GROUP):
        count = min(SERVERS_A_GROUP, servers - first)
        names = pa.array([f"server-{first + place:05d}" for place in range(count)])
        codes = pa.array(np.repeat(np.arange(count, dtype=np.int32), steps))
        columns = [
            pa.DictionaryArray.from_arrays(codes, names).cast(pa.string()),
            pa.array(np.tile(times, count), SCHEMA.field("timestamp").type),
            *(_percentages(random, day, count) for _ in range(2)),
        ]
        yield pa.table(columns, schema=SCHEMA)


def _percentages(random: np.random.Generator, day: np.ndarray, count: int) -> pa.Array:
    level, swing = random.uniform(10, 60, (count, 1)), random.uniform(0, 20, (count, 1))
    values = level + swing * day + random.standard_normal((count, len(day)))
    return pa.array(np.clip(values, 0, 100).round(2).ravel())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--servers", type=int, default=SERVERS)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    write_fleet(asked.file, asked.servers, asked.steps)


if __name__ == "__main__":
    main()
