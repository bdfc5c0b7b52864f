"""Trains with 32-true, 16-mixed and bf16-mixed on this machine's GPU, for real, and prints what happened.

    python -m benchmarks.gpu_check

Exits with 0 when every precision trained and CPU and GPU agree, 1 when not, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from benchmarks.fleet import Fleet
from benchmarks.ours import Listener, spec_of, write_group
from trainer.forecasting import forecast, forward_batch_size
from trainer.hardware import detect_hardware
from trainer.noise import library_noise_off
from trainer.prepare import prepare
from trainer.recipe import train
from trainer.spec import Precision

if TYPE_CHECKING:
    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# How far one forward may lie apart on CPU and GPU, in training deviations of the target: both are float32,
# but they add up in another order.
PARITY = 1e-3


@dataclass(frozen=True)
class Row:
    """What one precision did."""

    asked: str
    effective: str
    reason: str  # why it is not what was asked; empty if it is
    val_losses: list[float]
    windows_per_second: float
    peak_bytes: int | None  # of the GPU's memory; None on the CPU
    bad_steps: int
    difference: float  # largest, between CPU and GPU, in training deviations

    @property
    def sound(self) -> bool:
        """It learnt, in numbers, and forecasts on both devices alike."""
        finite = all(math.isfinite(loss) for loss in self.val_losses)
        return finite and bool(self.val_losses) and self.difference <= PARITY


def main() -> int:
    asked = _arguments()
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing was checked.", file=sys.stderr)
        return 2
    hardware = detect_hardware()
    capability = ".".join(str(part) for part in hardware.cuda_capability or ())
    print(f"{hardware.cuda_device}, CUDA capability {capability}, torch {torch.__version__}\n")
    fleet = made_fleet(asked.servers)
    rows = [check(fleet, precision, "cuda", epochs=asked.epochs) for precision in PRECISIONS]
    print(table(rows))
    return 0 if all(row.sound for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--servers", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=3)
    return parser.parse_args()


def made_fleet(servers: int, steps: int = 288, encoder_length: int = 48, horizon: int = 12) -> Fleet:
    """Waves with noise: every server has a level and an hour of its own."""
    random = np.random.default_rng(0)
    time = np.arange(steps)[None, :, None]
    level = random.uniform(10, 60, (servers, 1, 2))
    shift = random.uniform(0, 2 * np.pi, (servers, 1, 2))
    table = level + 8 * np.sin(2 * np.pi * time / 48 + shift) + random.normal(0, 1, (servers, steps, 2))
    start = np.datetime64("2026-01-05", "us")
    times = start + np.arange(steps) * np.timedelta64(300, "s")
    return Fleet(
        servers=tuple(f"server-{number:04d}" for number in range(servers)),
        seen=servers,
        targets=("cpu_percent", "memory_percent"),
        times=np.broadcast_to(times, (servers, steps)),
        table=table.astype(np.float32),
        encoder_length=encoder_length,
        horizon=horizon,
        validation_steps=round(steps * 0.2),
        test_steps=round(steps * 0.1),
    )


def check(fleet: Fleet, precision: Precision, accelerator: str, *, epochs: int, **options: Any) -> Row:
    """Train with `precision` on `accelerator`, then compare one forward with the CPU's."""
    options |= {"precision": precision, "accelerator": accelerator}
    spec = spec_of(fleet, seed=1, epochs=epochs, options=options)
    if accelerator == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        data, listener = write_group(fleet, "seen", Path(folder)), Listener()
        out = Path(folder) / "out"
        result = train(spec, data, out, listener).result or {}
        peak = torch.cuda.max_memory_allocated() if accelerator == "cuda" else None
        difference = _difference(spec, data, out / "model.safetensors")
    seconds = listener.phases["validating"] - listener.phases["training"]
    resolved = result["resolved_spec"]
    return Row(
        asked=precision,
        effective=resolved["precision"],
        reason=_reason(result["adjustments"]),
        val_losses=listener.val_losses,
        windows_per_second=result["steps"] * resolved["effective_batch_size"] / seconds,
        peak_bytes=peak,
        bad_steps=result["bad_steps"],
        difference=difference,
    )


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| asked | effective | first val_loss | last | windows/s | GPU memory | bad steps | CPU to GPU | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    memory = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB"
    effective = row.effective + (f" ({row.reason})" if row.reason else "")
    losses = [f"{loss:.4f}" for loss in (row.val_losses or [math.nan])]
    cells = [row.asked, effective, losses[0], losses[-1], f"{row.windows_per_second:.0f}", memory]
    cells += [str(row.bad_steps), f"{row.difference:.1e}", "ok" if row.sound else "NOT SOUND"]
    return "| " + " | ".join(cells) + " |"


def _reason(adjustments: list[dict[str, Any]]) -> str:
    return "; ".join(one["reason"] for one in adjustments if one["field"] == "precision")


def _difference(spec: TrainingSpec, data: DatasetFile, weights: Path) -> float:
    """Largest difference of the validation forecasts on the two devices, in training deviations."""
    there, deviations = _validation_forecast(spec, data, weights)
    here, _ = _validation_forecast(spec.model_copy(update={"accelerator": "cpu"}), data, weights)
    return float((np.abs(there - here) / deviations[:, None]).max())


def _validation_forecast(
    spec: TrainingSpec, data: DatasetFile, weights: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    with library_noise_off():
        run = prepare(spec, data, detect_hardware())
    run.model.load_state_dict(load_file(weights))
    run.model.to(run.device)
    windows = run.split.validation.thinned(256, spec.horizon)
    found = forecast(run.model, run.source, windows, forward_batch_size(run.spec, run.layout, run.device))
    return found, run.scaling.deviations


if __name__ == "__main__":
    sys.exit(main())
