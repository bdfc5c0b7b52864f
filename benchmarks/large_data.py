"""From a large file to the first optimizer step: python -m benchmarks.large_data FILE

FILE is Parquet or CSV, as `benchmarks/large_file.py` writes it. Inspection, preparation and both whole runs
have a process each. Seconds are of the processor (one thread) and of the clock, memory is the most that was
held during the part, with all that came before it in the same process.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.memory import resident_bytes
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetFormat, DatasetMapping, DatasetSchema
from trainer.dataset.series import load_series
from trainer.layout import Layout
from trainer.resolution import resolve_columns
from trainer.scaling import fit_scaling
from trainer.spec import TrainingSpec
from trainer.split import split_series

TARGETS = ["cpu_percent", "memory_percent"]
FORGET_PEAK = "5"  # what Linux calls resetting VmHWM
SECONDS_AT_MOST = 600.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Part:
    name: str
    cpu_seconds: float
    seconds: float
    peak_bytes: int


class Parts(list[Part]):
    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text(FORGET_PEAK, encoding="utf-8")
        cpu, clock = time.process_time(), time.monotonic()
        yield
        cpu, clock = time.process_time() - cpu, time.monotonic() - clock
        self.append(Part(name, cpu, clock, resident_bytes("VmHWM")))


def inspection(file: Path, folder: Path, windows: tuple[int, int]) -> list[Part]:  # noqa: ARG001
    """What an upload, or the first half of `foretrain train`, takes; leaves schema.json in `folder`."""
    parts = Parts()
    with parts.timed("inspection"):
        schema = inspect(file, _format(file), DatasetMapping())
    (folder / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
    return parts


def preparation(file: Path, folder: Path, windows: tuple[int, int]) -> list[Part]:
    """What training does before its first step, part by part."""
    parts = Parts()
    with parts.timed("imports"):
        importlib.import_module("trainer.recipe")
        import torch  # noqa: PLC0415 - it is timed

        from trainer.batches import WindowBatches  # noqa: PLC0415
        from trainer.windows import WindowSource  # noqa: PLC0415
    encoder, horizon = windows
    schema = DatasetSchema.model_validate_json((folder / "schema.json").read_bytes())
    asked = TrainingSpec(target_metrics=TARGETS, encoder_length=encoder, horizon=horizon)
    spec, _ = resolve_columns(asked, schema)
    layout = Layout.of(spec, schema.numeric_columns())
    with parts.timed("reading, gaps"):
        series = load_series(
            file, schema.format, DatasetMapping(), schema, layout.numeric, list(layout.statics), "interpolate"
        )
    with parts.timed("split"):
        split = split_series(
            series,
            encoder_length=encoder,
            horizon=horizon,
            validation_split=spec.validation_split,
            test_split=spec.test_split,
            window_stride=1,
        )
    with parts.timed("scaling"):
        scaling = fit_scaling(series, split, layout, spec.normalizer)
    with parts.timed("window source"):
        source = WindowSource(
            series,
            layout,
            scaling,
            encoder_length=encoder,
            horizon=horizon,
            device=torch.device("cpu"),
            history_end=split.train_end,
        )
    with parts.timed("first batch"):
        batches = WindowBatches(source, split.train, spec.batch_size, shuffle_seed=1, at_most=500_000)
        next(iter(batches))
    return parts


def command_line(file: Path, folder: Path, windows: tuple[int, int]) -> list[Part]:
    """`foretrain train`, from the start of its process to the first optimizer step."""
    out = folder / "cli"
    options = [word for name in TARGETS for word in ("--target-metrics", name)]
    options += ["--encoder-length", str(windows[0]), "--horizon", str(windows[1]), "--log-every-n-steps", "1"]
    command = ["-m", "foretrain", "train", str(file), "--out", str(out), "--threads", "1", *options]

    def has_stepped(process: subprocess.Popen[bytes]) -> None:
        while not (out / "tensorboard").exists() and process.poll() is None:
            time.sleep(POLL_SECONDS)

    return [_until("foretrain train, to the first step", command, has_stepped)]


def service(file: Path, folder: Path, windows: tuple[int, int]) -> list[Part]:
    """The trainer as the service starts it, its dataset inspected before, to the first optimizer step."""
    spec = TrainingSpec(
        target_metrics=TARGETS, encoder_length=windows[0], horizon=windows[1], log_every_n_steps=1
    )
    (folder / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    (folder / "mapping.json").write_text("{}", encoding="utf-8")
    link = folder / f"dataset.{_format(file)}"
    link.unlink(missing_ok=True)
    link.symlink_to(file.resolve())

    def has_stepped(process: subprocess.Popen[bytes]) -> None:
        for line in _pipe(process.stdout):
            if json.loads(line)["type"] == "metrics":
                return

    command = ["-m", "trainer", str(folder), "--threads", "1"]
    return [_until("the service's trainer, to the first step", command, has_stepped)]


BLOCKS: dict[str, Callable[[Path, Path, tuple[int, int]], list[Part]]] = {
    "inspection": inspection,
    "preparation": preparation,
    "command-line": command_line,
    "service": service,
}


def _until(name: str, arguments: list[str], wait: Callable[[subprocess.Popen[bytes]], None]) -> Part:
    """Start it, wait for what is waited for, measure, end it."""
    started_at = time.monotonic()
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait(process)
            seconds = time.monotonic() - started_at
            if process.poll() is not None:
                raise SystemExit(f"{name}: ended before its first step")
            fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            return Part(name, cpu, seconds, resident_bytes("VmHWM", process.pid))
        finally:
            process.kill()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the process was started without a pipe")
    return stream


def _format(file: Path) -> DatasetFormat:
    return "csv" if file.suffix == ".csv" else "parquet"


def _run_blocks(arguments: argparse.Namespace, folder: Path) -> Iterator[Part]:
    for block in arguments.only:
        command = [sys.executable, "-m", "benchmarks.large_data", str(arguments.file), "--block", block]
        command += ["--folder", str(folder)]
        command += ["--encoder", str(arguments.encoder), "--horizon", str(arguments.horizon)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=SECONDS_AT_MOST)
        yield from (Part(**part) for part in json.loads(answer.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--encoder", type=int, default=96)
    parser.add_argument("--horizon", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--block", choices=BLOCKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.block:
        windows = (arguments.encoder, arguments.horizon)
        parts = BLOCKS[arguments.block](arguments.file, arguments.folder, windows)
        print(json.dumps([asdict(part) for part in parts]))
        return
    print("| part | CPU s | s | peak GB |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for part in _run_blocks(arguments, Path(folder)):
            memory = f"{part.peak_bytes / 1e9:.2f}"
            print(f"| {part.name} | {part.cpu_seconds:.1f} | {part.seconds:.1f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
