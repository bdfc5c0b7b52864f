"""Proofs: threads, checkpoints, resuming, TensorBoard, the seed."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

from foretrain.doctor.feature import Proof
from foretrain.doctor.lab import equal_weights, require, small_spec

if TYPE_CHECKING:
    from foretrain.doctor.lab import Lab, Run

# A thread works if it takes this share of what the busiest takes: that does not depend on the machine's load.
WORKING_SHARE = 0.02
# Beyond that many, a network this small has nothing to hand to some of them.
MOST_THREADS_COUNTED = 4
WIDE: dict[str, Any] = {"hidden_size": 64, "hidden_continuous_size": 32, "batch_size": 256, "epochs": 1}
# Cutting windows has to be that much faster than training on them.
LOADER_LEAD = 3.0
RESUME_STATE = "resume.safetensors"


def prove_training(lab: Lab) -> Proof:
    """A run without anything special; the loss falls."""
    run = lab.train()
    losses = [value for _, value in run.points("train_loss") if value is not None]
    tail = len(losses) // 4
    first, last = sum(losses[:tail]) / tail, sum(losses[-tail:]) / tail
    require(last < first, f"the training loss did not fall: {first:.3g} at first, {last:.3g} at last")
    return Proof(run, f"the training loss fell from {first:.3g} to {last:.3g} in {len(losses)} steps")


def prove_threads(lab: Lab) -> Proof:
    """Every thread takes its share of the work, and the loader waits for the network."""
    cores = lab.hardware.cores
    run = lab.train(threads=cores, accelerator="cpu", **WIDE)
    recorded = run.finished["hardware"]["threads"]
    require(recorded == cores, f"{cores} cores, but the result says {recorded} threads")
    counted = min(cores, MOST_THREADS_COUNTED)
    taken = run.training_seconds_by_thread
    working = sum(seconds >= WORKING_SHARE * taken[0] for seconds in taken)
    require(not taken or working >= counted, f"only {working} of {cores} threads had work to do")
    cut, trained = _windows_cut_per_second(lab), run.windows_per_second or math.inf
    require(cut > LOADER_LEAD * trained, f"the loader cuts {cut:.0f} windows/s, training takes {trained:.0f}")
    shown = " + ".join(f"{seconds:.2f}" for seconds in taken[:counted]) or "unknown"
    return Proof(
        run,
        f"{recorded} threads; CPU seconds of each while training: {shown}; the loader cuts "
        f"{cut / trained:.0f} times as many windows as are trained on",
    )


def _windows_cut_per_second(lab: Lab) -> float:
    from trainer.noise import library_noise_off
    from trainer.prepare import prepare

    with library_noise_off():
        run = prepare(small_spec(accelerator="cpu", batch_size=256), lab.data, lab.hardware)
    started_at = time.monotonic()
    windows = sum(len(x["decoder_lengths"]) for x, _ in run.train_batches)
    return windows / (time.monotonic() - started_at)


def prove_checkpoints(lab: Lab) -> Proof:
    """Best and last are there, and stock pytorch-forecasting opens them."""
    run = lab.train(epochs=3)
    return Proof(run, check_checkpoints(run))


def check_checkpoints(run: Run) -> str:
    """Open both with the stock library and hold them against the weights without a pickle."""
    import torch
    from pytorch_forecasting import TemporalFusionTransformer
    from safetensors.torch import load_file

    from trainer.noise import library_noise_off

    weights = load_file(run.folder / "model.safetensors")
    sizes = []
    for name in ("model.ckpt", "last.ckpt"):
        path = run.folder / name
        require(path.is_file(), f"{name} is not there")
        with library_noise_off():
            stock = TemporalFusionTransformer.load_from_checkpoint(path, map_location="cpu").state_dict()
        require(stock.keys() == weights.keys(), f"{name} holds other tensors than model.safetensors")
        require(
            all(bool(torch.isfinite(each).all()) for each in stock.values() if each.is_floating_point()),
            f"{name} holds weights that are not finite",
        )
        if name == "model.ckpt":
            different = [key for key in stock if not torch.equal(stock[key], weights[key])]
            require(not different, f"{name} and model.safetensors differ in {len(different)} tensors")
        sizes.append(f"{name} {path.stat().st_size >> 10} KiB")
    return f"stock pytorch-forecasting opens {' and '.join(sizes)}; best equals model.safetensors"


def prove_resume(lab: Lab) -> Proof:
    """Stopped in the middle of an epoch and gone on with: as if never stopped."""
    whole = lab.plain
    steps = whole.finished["steps"]
    stop = steps // 2 + 2
    stopped = lab.train(stop_after_step=stop, **lab.exact)
    require(stopped.result is None, "the run did not heed the wish to stop")
    run = lab.train(resume_from=stopped, **lab.exact)
    first = run.of_type("metrics")[0].step
    require(first == stop + 1, f"stopped after step {stop}, gone on with step {first}")
    different = equal_weights(run, whole, ("model.safetensors", RESUME_STATE))
    require(not different, f"{len(different)} tensors differ from those of the run that was not stopped")
    return Proof(
        run,
        f"stopped after step {stop} of {steps}, gone on: weights, optimizer and random state equal the "
        "uninterrupted run's, bit for bit",
    )


def prove_tensorboard(lab: Lab) -> Proof:
    """TensorBoard itself reads the download."""
    run = lab.train(target_metrics=["cpu_percent", "memory_percent"])
    return Proof(run, check_tensorboard(run))


def check_tensorboard(*parts: Run) -> str:
    """Unpack tensorboard.zip, read it with TensorBoard's own reader, and hold it against the events.

    `parts` are the runs that went on from each other; the last one left the file.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = parts[-1].folder
    unpacked = folder / "unpacked"
    with ZipFile(folder / "tensorboard.zip") as archive:
        archive.extractall(unpacked)
    (log_folder,) = {path.parent for path in unpacked.rglob("events.out.tfevents.*")}
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # it tells of every file that it opens
    log = EventAccumulator(str(log_folder), size_guidance={"scalars": 0}).Reload()
    tags = log.Tags()["scalars"]
    count = 0
    for tag in ("train_loss", "val_loss"):
        require(tag in tags, f"TensorBoard finds no {tag}, only {', '.join(tags)}")
        read = {(point.step, point.value) for point in log.Scalars(tag)}
        said = {(step, value) for run in parts for step, value in run.points(tag) if value is not None}
        require(
            len(read) == len(said)
            and all(
                ours[0] == theirs[0] and math.isclose(ours[1], theirs[1], rel_tol=1e-5)
                for ours, theirs in zip(sorted(said), sorted(read), strict=True)
            ),
            f"{tag}: TensorBoard finds {len(read)} points, {len(said)} others were reported",
        )
        count += len(read)
    return f"tensorboard.zip read back: {len(tags)} curves, {count} points of train_loss and val_loss"


def prove_seed(lab: Lab) -> Proof:
    """Once more is the same, another seed is not."""
    again = lab.train(**lab.exact)
    different = equal_weights(again, lab.plain)
    require(not different, f"the same seed gave other weights in {len(different)} tensors")
    other = lab.train(random_seed=43, stop_after_step=3, **lab.exact).points("train_loss")
    require(
        all(one != two for one, two in zip(other, lab.plain.points("train_loss"), strict=False)),
        "another seed gave the same losses",
    )
    return Proof(
        again, "twice seed 42: equal weights, bit for bit; seed 43: other losses from the first step on"
    )
