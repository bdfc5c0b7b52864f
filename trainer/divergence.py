"""When training has gone wrong: the loss is no number, or far above that of a forecast that knows nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainer.errors import Diverged

if TYPE_CHECKING:
    from trainer.model import ForecastModel

BAD_STEPS_ALLOWED = 10  # in a row; a single one may come from a single odd batch
# How many times worse than forecasting every window's centre, on the same windows.
WORSE_THAN_NOTHING = 10.0


def check_loss(model: ForecastModel, train_loss: float, step: int) -> None:
    """Raise Diverged if too many steps in a row had to be left out, or the loss has exploded.

    `train_loss` is the mean since the last report. It is held against the loss of a forecast of zero in
    scaled space over the same windows, and against the untrained network's own: metrics that are tiny next to
    their scale must not look like a divergence.
    """
    tally = model.tally
    if float(tally.bad_steps_in_a_row) >= BAD_STEPS_ALLOWED:
        raise Diverged(
            f"the loss was not finite in {int(tally.bad_steps_in_a_row)} steps in a row, up to step {step}; "
            f"{_cure(model)}"
        )
    usual = max(float(tally.idle_loss) / tally.batches, float(tally.first_loss))
    if train_loss > WORSE_THAN_NOTHING * usual:
        raise Diverged(
            f"up to step {step} the training loss rose to {train_loss:.3g}, {train_loss / usual:.0f} times "
            f"that of a forecast that knows nothing; {_cure(model)}"
        )


def check_validation_loss(model: ForecastModel, loss: float, step: int) -> None:
    """Raise Diverged if the validation loss is no number."""
    if not math.isfinite(loss):
        raise Diverged(f"the validation loss was not finite after step {step}; {_cure(model)}")


def _cure(model: ForecastModel) -> str:
    return f"lower learning_rate (now {model.plan.learning_rate.peak:g}), or use precision 32-true"
