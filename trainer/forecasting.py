"""Forecasts of many windows at once: evaluation mode, float32, no gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from trainer.batches import WindowBatches

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.layout import Layout
    from trainer.model import ForecastModel
    from trainer.spec import TrainingSpec
    from trainer.split import Windows
    from trainer.windows import WindowSource

ACTIVATION_BYTES = 256 * 2**20
# On a CPU more windows at once leave the caches: of 32 to 1024, 128 to 512 took the least time.
LARGEST_BATCH = {"cuda": 1024, "cpu": 256}
BATCHES_AT_ONCE = 8  # what one training batch keeps for its backward pass is more than these need


def forward_batch_size(spec: TrainingSpec, layout: Layout, device: torch.device) -> int:
    """Windows per batch without gradients, so that the variable selection's tensors stay within bounds.

    Bound to the batch of training too, so that where memory is short both shrink.
    """
    largest = LARGEST_BATCH[device.type]
    steps = spec.encoder_length + spec.horizon
    per_window = 4 * 4 * steps * len(layout.reals) * spec.hidden_size
    return int(min(max(ACTIVATION_BYTES // per_window, 1), largest, BATCHES_AT_ONCE * spec.batch_size))


def forecast(
    model: ForecastModel,
    source: WindowSource,
    windows: Windows,
    batch_size: int,
    *,
    between_batches: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """Quantiles of all windows in order, original units, not sorted: (n, horizon, n_targets, n_quantiles)."""
    model.eval()
    parts = []
    with torch.inference_mode():
        for x, _ in WindowBatches(source, windows, batch_size):
            parts.append(model.quantiles(x).cpu().numpy())
            between_batches()
    return np.concatenate(parts)


def measure_validation(model: ForecastModel, batches: WindowBatches) -> None:
    """Run the validation of an epoch outside of Lightning's loop; the sums are left in `model.validation`."""
    model.eval()
    model.on_validation_epoch_start()
    with torch.inference_mode():
        for index, batch in enumerate(batches):
            model.validation_step(batch, index)
    model.on_validation_epoch_end()
