"""What a run does about memory that does not suffice, and about a loss that runs away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainer.errors import Diverged, OutOfMemory, TrainerError
from trainer.events import Adjustment
from trainer.precision import next_precision

if TYPE_CHECKING:
    from trainer.hardware import Hardware
    from trainer.spec import TrainingSpec
    from trainer.state import Adaptation

RATE_CUT = 0.1
MOST_RATE_CUTS = 3


def heal(spec: TrainingSpec, failure: TrainerError, adaptation: Adaptation, hardware: Hardware) -> Adaptation:
    """How to go on after `failure`, with one more change and its adjustment; raises it where nothing is left.

    `spec` is the one that failed.
    """
    if isinstance(failure, OutOfMemory) and spec.on_out_of_memory == "adapt":
        return halve_batch(spec, adaptation, failure)
    if isinstance(failure, Diverged) and spec.on_divergence == "adapt":
        return _calm(spec, adaptation, failure, hardware)
    raise failure


def halve_batch(spec: TrainingSpec, adaptation: Adaptation, failure: OutOfMemory) -> Adaptation:
    """Smaller batches, more of them to a step: the windows behind an optimizer step stay the same.

    An odd batch shrinks to the next divisor. Raises `failure` when the batch is down to one window.
    """
    effective = spec.effective_batch_size
    smaller = [size for size in range(1, spec.batch_size // 2 + 1) if effective % size == 0]
    if not smaller:
        raise OutOfMemory(
            "memory did not suffice, not even for one window at a time; shorten encoder_length, lower "
            "hidden_size, or give the job more memory"
        ) from failure
    reason = f"memory did not suffice; the effective batch stays {effective}"
    changes = {"batch_size": smaller[-1], "accumulate_grad_batches": effective // smaller[-1]}
    return _changed(spec, adaptation, changes, reason)


def _calm(spec: TrainingSpec, adaptation: Adaptation, failure: Diverged, hardware: Hardware) -> Adaptation:
    """A wider number format first, then a lower rate."""
    wider = next_precision(spec.precision, hardware)
    if wider is not None:
        return _changed(spec, adaptation, {"precision": wider}, f"training diverged: {failure}")
    if adaptation.rate_cuts >= MOST_RATE_CUTS:
        raise Diverged(
            f"training diverged again after learning_rate was lowered {MOST_RATE_CUTS} times: {failure}"
        ) from failure
    lower = {"learning_rate": spec.learning_rate * RATE_CUT}
    cut = _changed(spec, adaptation, lower, f"training diverged: {failure}")
    return replace(cut, rate_cuts=adaptation.rate_cuts + 1)


def _changed(spec: TrainingSpec, adaptation: Adaptation, changes: dict[str, Any], reason: str) -> Adaptation:
    adjustments = [
        Adjustment(field=name, requested=getattr(spec, name), effective=value, reason=reason)
        for name, value in changes.items()
    ]
    return replace(
        adaptation,
        changes=adaptation.changes | changes,
        adjustments=[*adaptation.adjustments, *adjustments],
    )
