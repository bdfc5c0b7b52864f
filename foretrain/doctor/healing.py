"""Proofs of what a run does about a loss that runs away and memory that does not suffice; both provoked."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretrain.doctor import memory
from foretrain.doctor.feature import Proof
from foretrain.doctor.lab import NotPossibleHere, Run, read_json, require, small_spec
from trainer.events import parse_event

if TYPE_CHECKING:
    from foretrain.doctor.lab import Lab

MUCH_TOO_HIGH = 1e3
# What a training may take beside the libraries, and a batch that takes more.
ALLOWED_BYTES = 400 << 20
LARGE: dict[str, Any] = {
    "batch_size": 256,
    "hidden_size": 128,
    "hidden_continuous_size": 64,
    "encoder_length": 48,
    "horizon": 12,
    "epochs": 1,
    "max_steps": 1,
    "accelerator": "cpu",
}
CHILD_SECONDS = 240.0


def prove_divergence_is_healed(lab: Lab) -> Proof:
    """A rate that no network survives."""
    run = lab.train(learning_rate=MUCH_TOO_HIGH)
    cuts = [entry["effective"] for entry in run.adjustments_of("learning_rate")]
    require(bool(cuts), f"a rate of {MUCH_TOO_HIGH:g} was trained with as if nothing were wrong")
    require(run.val_loss is not None and math.isfinite(run.val_loss), f"the loss is {run.val_loss}")
    used = run.finished["resolved_spec"]["learning_rate"]
    require(used == cuts[-1], f"lowered to {cuts[-1]:g}, but the spec says {used:g}")
    lowered = " -> ".join(f"{rate:g}" for rate in (MUCH_TOO_HIGH, *cuts))
    return Proof(run, f"diverged, went back to sound weights and lowered the rate by itself: {lowered}")


def prove_memory_is_healed(lab: Lab) -> Proof:
    """A process of its own, which may allocate too little for the batch it was given."""
    if sys.platform != "linux" or lab.import_own_bytes is None:
        raise NotPossibleHere("only Linux lets us limit what a process allocates")
    run_dir = lab.new_folder()
    spec = small_spec(**LARGE)
    run_dir.mkdir()
    (run_dir / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    (run_dir / "schema.json").write_text(lab.data.schema.model_dump_json(), encoding="utf-8")
    (run_dir / "mapping.json").write_text(lab.data.mapping.model_dump_json(), encoding="utf-8")
    (run_dir / "dataset.parquet").symlink_to(lab.data.path.absolute())
    run = _train_in_child(lab, run_dir, lab.import_own_bytes + ALLOWED_BYTES)
    halvings = run.adjustments_of("batch_size")
    require(bool(halvings), f"a batch of {spec.batch_size} fitted into {ALLOWED_BYTES >> 20} MiB")
    resolved = run.finished["resolved_spec"]
    require(
        resolved["effective_batch_size"] == spec.effective_batch_size,
        f"the effective batch is {resolved['effective_batch_size']}, not {spec.effective_batch_size}",
    )
    require(run.val_loss is not None and math.isfinite(run.val_loss), f"the loss is {run.val_loss}")
    smaller = " -> ".join(
        str(size) for size in (spec.batch_size, *(entry["effective"] for entry in halvings))
    )
    return Proof(
        run,
        f"{ALLOWED_BYTES >> 20} MiB beside the libraries did not suffice: batch {smaller}, accumulation "
        f"{resolved['accumulate_grad_batches']}, the effective batch stays {spec.effective_batch_size}",
    )


def _train_in_child(lab: Lab, run_dir: Path, limit_bytes: int) -> Run:
    """The trainer's program as the worker starts it."""
    started_at, peak, events = time.monotonic(), None, []
    log = run_dir / "log.txt"
    command = [sys.executable, "-P", "-m", "trainer", str(run_dir.absolute()), "--threads", "1"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*command, "--memory-limit", str(limit_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        ) as child,
    ):
        try:
            for line in child.stdout or ():
                require(time.monotonic() - started_at < CHILD_SECONDS, "the run did not end")
                events.append(parse_event(line))
                peak = memory.peak_bytes(Path(f"/proc/{child.pid}")) or peak
        finally:
            child.kill() if events and events[-1].type not in {"finished", "failed"} else None
    failures = [event.message for event in events if event.type == "failed"]
    require(child.returncode == 0 and not failures, "; ".join(failures) or f"exit code {child.returncode}")
    out = run_dir / "out"
    return Run(
        folder=out,
        events=events,
        result=read_json(out / "result.json"),
        seconds=time.monotonic() - started_at,
        peak_bytes=lab.above_imports(peak),
        peak_gpu_bytes=None,
    )
