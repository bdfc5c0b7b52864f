"""Proofs: the learning-rate finder, its monitor, the validation split, the progress report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from foretrain.doctor import fleet
from foretrain.doctor.feature import Proof
from foretrain.doctor.lab import EPOCHS, SMALL, read_json, require

if TYPE_CHECKING:
    from foretrain.doctor.lab import Lab, Run

FEWEST_CURVE_POINTS = 20
SMALL_SPLIT, LARGE_SPLIT = 0.2, 0.4


def prove_rate_finder(lab: Lab) -> Proof:
    """A curve with a suggestion, and training at the rate that came of it."""
    run = lab.train(auto_lr_find=True, lr_schedule="constant", warmup_fraction=0.0)
    seen = check_rate_finder(run)
    found = run.finished["resolved_spec"]["learning_rate"]
    used = {value for _, value in run.points("learning_rate") if value is not None}
    require(
        all(math.isclose(rate, found, rel_tol=1e-6) for rate in used),
        f"found {found:.3g}, trained with {', '.join(f'{rate:.3g}' for rate in sorted(used))}",
    )
    return Proof(run, f"{seen}; trained with it")


def check_rate_finder(run: Run) -> str:
    """Read lr_find.json."""
    path = run.folder / "lr_find.json"
    require(path.is_file(), "there is no lr_find.json")
    content = read_json(path)
    rates, losses = content["rates"], content["losses"]
    require(
        len(rates) == len(losses) >= FEWEST_CURVE_POINTS and rates == sorted(rates),
        f"the curve has {len(rates)} rates and {len(losses)} losses",
    )
    require(content["suggestion"] is not None, f"nothing suggested: {content['reason']}")
    rate = run.finished["resolved_spec"]["learning_rate"]
    require(
        rate == content["learning_rate"], f"lr_find.json says {content['learning_rate']}, the spec {rate}"
    )
    return f"a curve of {len(rates)} rates, steepest at {content['suggestion']:.2g}, rate {rate:.2g}"


def prove_rate_monitor(lab: Lab) -> Proof:
    """As often as was asked, and the numbers are those of the schedule."""
    run = lab.train(lr_monitor_interval="step")
    steps = run.finished["steps"]
    points = {"step": run.points("learning_rate")}
    for interval in ("epoch", "none"):
        # One epoch more, which is broken off after its first step: no time goes into scores and a report.
        short = lab.train(lr_monitor_interval=interval, epochs=EPOCHS + 1, stop_after_step=steps + 1)
        points[interval] = short.points("learning_rate")
    counts = {interval: len(found) for interval, found in points.items()}
    require(counts == {"step": steps, "epoch": EPOCHS, "none": 0}, f"points by interval: {counts}")
    rates = [value for _, value in points["step"] if value is not None]
    peak = SMALL["learning_rate"]
    require(
        math.isclose(max(rates), peak, rel_tol=0.05) and rates[-1] < max(rates) / 2,
        f"one cycle to {peak} reported as {rates[0]:.2g} … {max(rates):.2g} … {rates[-1]:.2g}",
    )
    return Proof(
        run,
        f"step {counts['step']}, epoch {counts['epoch']}, none {counts['none']} points; one cycle "
        f"{rates[0]:.2g} -> {max(rates):.2g} -> {rates[-1]:.2g}",
    )


def prove_validation_split(lab: Lab) -> Proof:
    """The windows that each split leaves, by arithmetic."""
    lab_runs = {SMALL_SPLIT: lab.plain, LARGE_SPLIT: lab.train(validation_split=LARGE_SPLIT)}
    shown = []
    for split, run in lab_runs.items():
        windows, expected = run.finished["windows"], _expected_windows(split)
        counted = {part: windows[part] for part in expected}
        require(counted == expected, f"split {split:g}: {counted}, not {expected}")
        shown.append(f"{split:g}: {counted['train']} + {counted['validation']} windows")
    return Proof(lab_runs[LARGE_SPLIT], f"{'; '.join(shown)}; {expected['test']} for the test")


def _expected_windows(validation_split: float) -> dict[str, int]:
    """Each server ends in a validation and a test tail; a horizon lies within one part."""
    encoder, horizon = SMALL["encoder_length"], SMALL["horizon"]
    test, validation = round(fleet.STEPS * 0.1), round(fleet.STEPS * validation_split)
    train = fleet.STEPS - test - validation
    return {
        "train": fleet.SERVERS * (train - encoder - horizon + 1),
        "validation": fleet.SERVERS * (validation - horizon + 1),
        "test": fleet.SERVERS * (test - horizon + 1),
    }


def prove_progress(lab: Lab) -> Proof:
    """From nothing to all, always forward."""
    run = lab.train(epochs=4)
    return Proof(run, check_progress(run))


def check_progress(run: Run) -> str:
    """Fractions rise from 0 to 1, with epoch, step, speed and the time that is left."""
    events, steps = run.of_type("progress"), run.finished["steps"]
    fractions = [event.fraction for event in events]
    require(
        len(events) > 2 and fractions == sorted(fractions) and fractions[0] == 0.0 and fractions[-1] == 1.0,
        f"fractions {', '.join(f'{each:.2f}' for each in fractions)}",
    )
    require(events[-1].step == steps, f"the last report is of step {events[-1].step}, there were {steps}")
    epochs = {event.epoch for event in events}
    require(epochs == set(range(1, events[0].epochs + 1)), f"epochs reported: {sorted(epochs)}")
    middle = [event for event in events if 0 < event.fraction < 1]
    require(
        all(event.windows_per_second and event.eta_seconds is not None for event in middle),
        "a report on the way lacks the speed or the time that is left",
    )
    require(
        bool(run.points("train_loss")) and bool(run.points("val_loss")), "no losses were reported on the way"
    )
    eta = middle[0].eta_seconds
    return f"{len(events)} reports, 0 to 100 %, epochs 1-{max(epochs)}, first ETA {eta:.1f} s, both losses"
