"""Proofs of the fields that steer training: clipping, patience, logging, gaps, scales, intervals, presets."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from foretrain.doctor import fleet
from foretrain.doctor.feature import Proof
from foretrain.doctor.lab import SMALL, NotProven, equal_weights, read_json, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretrain.doctor.lab import Lab, Run
    from trainer.presets import Preset

CLIP = 0.05
NORMALIZERS = ("window_robust", "window_standard", "series_robust", "series_standard", "none")
# How far the share of values in the calibrated 80 % interval may lie from 80 %, on this small a test tail.
COVERAGE_TOLERANCE = 0.15
# Presets are tried with so many epochs and windows; all else is theirs.
SHRUNK: dict[str, Any] = {
    name: SMALL[name]
    for name in (
        *("encoder_length", "horizon", "hidden_size", "hidden_continuous_size", "attention_head_size"),
        *("quantiles", "known_covariates", "log_every_n_steps"),
    )
} | {"epochs": 2, "max_train_windows": 256}


def prove_clipping(lab: Lab) -> Proof:
    """Gradients as the optimizer takes them, measured by a hook of torch's own."""
    with _gradient_norms() as free:
        lab.train(gradient_clip_val=0.0, stop_after_step=6)
    with _gradient_norms() as clipped:
        run = lab.train(gradient_clip_val=CLIP)
    require(max(free) > CLIP, f"unclipped gradients stay below {CLIP} anyway: {max(free):.3g}")
    require(max(clipped) <= CLIP * 1.001, f"a gradient of norm {max(clipped):.3g} passed the clip of {CLIP}")
    return Proof(run, f"norm at the optimizer: at most {max(clipped):.3g}, without clipping {max(free):.3g}")


@contextmanager
def _gradient_norms() -> Iterator[list[float]]:
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    norms: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        each = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(each)))

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield norms
    finally:
        handle.remove()


def prove_early_stopping(lab: Lab) -> Proof:
    """It ends `patience` epochs after the best, long before the last."""
    epochs, patience = 30, 1
    run = lab.train(
        epochs=epochs,
        early_stopping_patience=patience,
        learning_rate=0.1,
        lr_schedule="constant",
        max_train_windows=128,
    )
    ended, done, best = (run.finished[name] for name in ("stop_reason", "epochs", "best"))
    require(ended == "early_stopped" and done < epochs, f"{ended} after {done} of {epochs} epochs")
    require(done == best["epoch"] + patience, f"the best was epoch {best['epoch']}, the end epoch {done}")
    return Proof(run, f"stopped after epoch {done} of {epochs}; the best was epoch {best['epoch']}")


def prove_logging(lab: Lab) -> Proof:
    """Steps at which the training loss is reported."""
    every = 4
    run = lab.train(log_every_n_steps=every)
    steps = run.finished["steps"]
    per_epoch = steps // SMALL["epochs"]
    expected = sorted({*range(every, steps + 1, every), *range(per_epoch, steps + 1, per_epoch)})
    found = [step for step, _ in run.points("train_loss")]
    require(found == expected, f"reported at steps {found}, not {expected}")
    return Proof(run, f"train_loss at steps {', '.join(map(str, found))} (and at each epoch's end)")


def prove_gaps(lab: Lab) -> Proof:
    """Every step that was lost is counted as what was done to it, and `error` refuses."""
    from trainer.errors import InvalidDataset

    short = fleet.SERVERS * sum(length for _, length in fleet.GAPS if length <= fleet.SHORT_GAP)
    lost = fleet.SERVERS * sum(length for _, length in fleet.GAPS)
    expected = {"interpolate": (short, lost - short), "mask": (0, lost)}
    runs = {
        policy: lab.train(data=lab.data_with_gaps, missing_policy=policy, **lab.exact) for policy in expected
    }
    for policy, run in runs.items():
        counted = filled_steps(run)
        require(counted == expected[policy], f"{policy}: {counted} steps on a line and masked")
    require(
        bool(equal_weights(runs["interpolate"], runs["mask"])), "interpolate and mask train the same weights"
    )
    try:
        lab.train(data=lab.data_with_gaps, missing_policy="error")
    except InvalidDataset as error:
        refusal = str(error)
    else:
        raise NotProven("missing_policy error trained on data with gaps")
    return Proof(
        runs["interpolate"],
        f"{lost} steps lost: interpolate drew {short} and masked {lost - short}, mask masked {lost}, error "
        f"refused: {refusal.partition(';')[0]}",
    )


def filled_steps(run: Run) -> tuple[int, int]:
    """Steps of the first target that were put on a line, and those that carry no loss."""
    counts = run.finished["data_report"]["totals"]["columns"].get(fleet.TARGETS[0], {})
    return counts.get("interpolated", 0), counts.get("masked", 0)


def prove_normalizers(lab: Lab) -> Proof:
    """Each trains another network, and the forecasts come back in the metric's unit."""
    runs = {name: lab.train(normalizer=name) for name in NORMALIZERS}
    errors = {}
    for name, run in runs.items():
        kept = read_json(run.folder / "model.json")["resolved_spec"]["normalizer"]
        require(kept == name, f"{name} was asked for, {kept} was trained")
        entry = run.finished["scores"]["targets"][fleet.TARGETS[0]]
        errors[name] = entry["model"]["mae"]
        require(math.isfinite(errors[name]), f"{name}: the error is not finite")
    losses = {run.val_loss for run in runs.values()}
    require(len(losses) == len(runs), "two of them trained the same network")
    scaled = [error for name, error in errors.items() if name != "none"]
    require(max(scaled) < errors["none"], f"scaling does not help: errors {errors}")
    return Proof(
        runs["series_robust"],
        "MAE in percent: " + ", ".join(f"{name} {error:.1f}" for name, error in errors.items()),
    )


def prove_calibration(lab: Lab) -> Proof:
    """Intervals before and after, on the test tail of many servers; without calibration they stay."""
    run, off = lab.train(data=lab.data_of_many), lab.train(calibration="none")
    raw, calibrated = check_calibration(run)
    require(
        abs(calibrated - 0.8) <= COVERAGE_TOLERANCE,
        f"the 80 % interval holds {calibrated:.0%}, raw {raw:.0%}",
    )
    entry = off.finished["scores"]["targets"][fleet.TARGETS[0]]
    require(entry["model"] == entry["model_raw"], "calibration none moved the intervals")
    return Proof(
        run,
        f"{fleet.MANY_SERVERS} servers: the 80 % interval holds {raw:.0%} of the test values raw, "
        f"{calibrated:.0%} calibrated; calibration none leaves them",
    )


def check_calibration(run: Run) -> tuple[float, float]:
    """Raw and calibrated coverage of the first target's 80 % interval, which differ."""
    entry = run.finished["scores"]["targets"][fleet.TARGETS[0]]
    raw, calibrated = (entry[name]["intervals"]["80"]["coverage"] for name in ("model_raw", "model"))
    require(raw != calibrated, f"calibration moved nothing: {raw:.0%} before and after")
    return raw, calibrated


def preset_proof(preset: Preset) -> Callable[[Lab], Proof]:
    """The proof for one preset."""
    return partial(_prove_preset, preset)


def _prove_preset(preset: Preset, lab: Lab) -> Proof:
    """Its fields are in the resolved spec, but for what was overridden and what the hardware lacks."""
    from trainer.presets import PRESETS
    from trainer.spec import TrainingSpec

    run = lab.train_as(TrainingSpec(preset=preset, **SHRUNK))
    resolved = run.finished["resolved_spec"]
    given_way = {entry["field"] for entry in run.finished["adjustments"]} | SHRUNK.keys()
    for name, value in PRESETS[preset].items():
        require(
            name in given_way or resolved[name] == value,
            f"{name} is {resolved[name]}, the preset says {value}",
        )
    require(resolved["epochs"] == SHRUNK["epochs"], f"epochs was overridden, but is {resolved['epochs']}")
    targets = len(resolved["target_metrics"])
    require(targets == (2 if PRESETS[preset]["multi_target"] else 1), f"it trained {targets} targets")
    require((run.folder / "lr_find.json").is_file(), "the preset's learning-rate finder did not run")
    return Proof(
        run,
        f"{targets} target{'s' * (targets > 1)}, batch {resolved['batch_size']} x "
        f"{resolved['accumulate_grad_batches']}, validation {resolved['validation_split']:g}, "
        f"{resolved['precision']}, rate found {resolved['learning_rate']:.2g}; epochs overridden",
    )
