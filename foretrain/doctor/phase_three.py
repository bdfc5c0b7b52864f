"""Proofs: precision, gradient accumulation, several targets."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from foretrain.doctor.feature import Proof
from foretrain.doctor.fleet import TARGETS
from foretrain.doctor.lab import EPOCHS, SMALL, NotProven, equal_weights, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretrain.doctor.lab import Lab, Run
    from trainer.spec import Precision

ACCUMULATE = 4
# How far two orders of the same additions may end apart, as a share of the loss.
SAME_LOSS = 0.01


def precision_proof(precision: Precision) -> Callable[[Lab], Proof]:
    """The proof for one number format."""
    return partial(_prove_precision, precision)


def _prove_precision(precision: Precision, lab: Lab) -> Proof:
    """It runs as this hardware can, with finite numbers, and says so; weights stay in float32."""
    run = lab.train(precision=precision)
    require(run.val_loss is not None and math.isfinite(run.val_loss), f"the loss is {run.val_loss}")
    require(run.finished["bad_steps"] == 0 or precision == "16-mixed", "steps had to be left out")
    _require_float32_weights(run)
    effective = run.finished["resolved_spec"]["precision"]
    if effective != precision:
        return Proof(run, _fallen_back(lab, run, precision, effective))
    if precision == "32-true":
        return Proof(run, "runs as asked; finite loss")
    require(bool(equal_weights(run, lab.plain)), "the weights are those of 32-true: nothing was narrowed")
    return Proof(run, "runs as asked; finite loss, weights kept in float32, other than those of 32-true")


def _fallen_back(lab: Lab, run: Run, precision: Precision, effective: str) -> str:
    from trainer.errors import UnsupportedHardware

    reasons = [entry["reason"] for entry in run.adjustments_of("precision")]
    require(len(reasons) == 1 and bool(reasons[0]), f"runs as {effective} without saying why")
    if not lab.has_gpu:
        require(not equal_weights(run, lab.plain), f"said to run as {effective}, the weights are others")
    try:
        lab.train(precision=precision, precision_strict=True)
    except UnsupportedHardware:
        return f"falls back to {effective}: {reasons[0]}; precision_strict refuses"
    raise NotProven("precision_strict trained although the hardware lacks the precision")


def _require_float32_weights(run: Run) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(run.folder / "model.safetensors").values()
    kinds = {each.dtype for each in weights if each.is_floating_point()}
    require(kinds == {torch.float32}, f"weights are kept as {', '.join(map(str, kinds))}")


def prove_accumulation(lab: Lab) -> Proof:
    """Small batches added up train as one large batch does."""
    batch = SMALL["batch_size"]
    still: dict[str, Any] = {
        "dropout": 0.0,
        "static_categoricals": [],
    }  # nothing that is drawn batch by batch
    whole = lab.train(stop_after_step=steps_per_epoch(lab) + 1, **still)
    run = lab.train(batch_size=batch // ACCUMULATE, accumulate_grad_batches=ACCUMULATE, **still)
    effective = run.finished["resolved_spec"]["effective_batch_size"]
    require(effective == batch, f"the resolved spec says an effective batch of {effective}, not {batch}")
    steps, expected = run.finished["steps"], whole.of_type("resolved")[0].total_steps
    require(steps == expected, f"{steps} optimizer steps, not {expected}")
    (_, ours), (_, theirs) = run.points("val_loss")[0], whole.points("val_loss")[0]
    require(
        ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=SAME_LOSS),
        f"val_loss after the first epoch {ours}, but {theirs} with the same windows in one batch",
    )
    return Proof(
        run,
        f"effective batch {effective}, {steps} optimizer steps as with batch {batch}; val_loss after an "
        f"epoch {ours:.5g}, with batch {batch} {theirs:.5g}",
    )


def steps_per_epoch(lab: Lab) -> int:
    """Optimizer steps in an epoch of the plain run."""
    return int(lab.plain.finished["steps"]) // EPOCHS


def prove_multi_target(lab: Lab) -> Proof:
    """One network, scores for each target, and a loss that is their sum."""
    run = lab.train(target_metrics=list(TARGETS))
    return Proof(run, check_targets(run))


def check_targets(run: Run) -> str:
    """Scores and losses of every target."""
    scores, best = run.finished["scores"]["targets"], run.finished["best"]
    require(tuple(scores) == TARGETS, f"scores of {', '.join(scores)} alone")
    risks = {name: entry["model"]["q_risk"] for name, entry in scores.items()}
    require(all(math.isfinite(risk) for risk in risks.values()), f"q-risks {risks}")
    parts = best["val_loss_per_target"]
    require(tuple(parts) == TARGETS and min(parts.values()) > 0, f"losses per target: {parts}")
    total = sum(parts.values())
    require(
        math.isclose(total, best["val_loss"], rel_tol=1e-6), f"val_loss {best['val_loss']}, the parts {total}"
    )
    added = " + ".join(f"{part:.3g}" for part in parts.values())
    shown = ", ".join(f"{name} {risk:.3g}" for name, risk in risks.items())
    return f"val_loss {best['val_loss']:.3g} = {added}; q-risk {shown}"
