"""Reading the same numbers from each format: python -m benchmarks.formats [--servers N] [--steps N]

Two metrics a server at a minute's step. Each format is inspected in a process of its own; seconds are of the
processor (one thread), memory is the most that the process held beyond what it held before reading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt

from benchmarks.memory import resident_bytes
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetFormat, DatasetMapping

METRICS = ("cpu_percent", "memory_percent")
FIRST = 1_772_323_200
STEP = 60

Values = npt.NDArray[np.float64]  # (servers, metrics, steps)


def main() -> None:
    """Write the files, read each, print a table."""
    asked = _arguments()
    if asked.file is not None:
        _read_one(asked.file, asked.format)
        return
    values = np.round(np.random.default_rng(0).uniform(0, 100, (asked.servers, len(METRICS), asked.steps)), 3)
    print("| format | bytes a sample | CPU s | million samples a CPU s | peak, bytes a sample |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in WRITERS.items():
            path = Path(folder) / name
            with path.open("w", encoding="utf-8") as file:
                file.writelines(lines(values))
            seconds, peak = _in_a_process(path, name)
            size, count = path.stat().st_size, values.size
            print(
                f"| {name} | {size / count:.1f} | {seconds:.2f} | {count / seconds / 1e6:.2f} "
                f"| {peak / count:.0f} |"
            )
            path.unlink()


def as_csv(values: Values) -> Iterator[str]:
    yield ",".join(("timestamp", "server", *METRICS)) + "\n"
    for server, rows in enumerate(values.tolist()):
        for step, row in enumerate(zip(*rows, strict=True)):
            yield f"{FIRST + step * STEP},web-{server},{row[0]},{row[1]}\n"


def as_prometheus(values: Values) -> Iterator[str]:
    yield '{"status":"success","data":{"resultType":"matrix","result":['
    comma = ""
    for server, rows in enumerate(values.tolist()):
        for metric, samples in zip(METRICS, rows, strict=True):
            pairs = ",".join(f'[{FIRST + step * STEP},"{value}"]' for step, value in enumerate(samples))
            yield f'{comma}{{"metric":{{"__name__":"{metric}","server":"web-{server}"}},"values":[{pairs}]}}'
            comma = ","
    yield "]}}\n"


def as_victoriametrics(values: Values) -> Iterator[str]:
    stamps = [(FIRST + step * STEP) * 1000 for step in range(values.shape[2])]
    for server, rows in enumerate(values.tolist()):
        for metric, samples in zip(METRICS, rows, strict=True):
            labels = {"__name__": metric, "server": f"web-{server}"}
            yield json.dumps({"metric": labels, "values": samples, "timestamps": stamps}) + "\n"


def as_influx(values: Values) -> Iterator[str]:
    for server, rows in enumerate(values.tolist()):
        for step, row in enumerate(zip(*rows, strict=True)):
            stamp = (FIRST + step * STEP) * 10**9
            yield f"host,server=web-{server} cpu_percent={row[0]},memory_percent={row[1]} {stamp}\n"


WRITERS: dict[DatasetFormat, Callable[[Values], Iterator[str]]] = {
    "csv": as_csv,
    "prometheus": as_prometheus,
    "victoriametrics": as_victoriametrics,
    "influx": as_influx,
}


def _in_a_process(path: Path, name: DatasetFormat) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.formats", "--file", str(path), "--format", name]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return float(told["cpu_seconds"]), int(told["peak_bytes"])


def _read_one(path: Path, name: DatasetFormat) -> None:
    before, started = resident_bytes("VmRSS"), time.process_time()
    inspect(path, name, DatasetMapping())
    seconds = time.process_time() - started
    print(json.dumps({"cpu_seconds": seconds, "peak_bytes": resident_bytes("VmHWM") - before}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=200)
    parser.add_argument("--steps", type=int, default=2880)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--format", choices=get_args(DatasetFormat), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
