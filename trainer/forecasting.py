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

FloatArray = npt.NDArray[np.float64]
ACTIVATION_BYTES = 256 * 2**20
LARGEST_BATCH = 1024


def forward_batch_size(spec: TrainingSpec, layout: Layout) -> int:
    """Windows per batch without gradients, so that the variable selection's tensors stay within bounds."""
    steps = spec.encoder_length + spec.horizon
    per_window = 4 * 4 * steps * len(layout.reals) * spec.hidden_size
    return int(min(max(ACTIVATION_BYTES // per_window, 1), LARGEST_BATCH))


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


def look_inside(
    model: ForecastModel, batches: WindowBatches
) -> tuple[dict[str, dict[str, float]], FloatArray]:
    """What the network looked at: each input's share by kind, and attention over the encoder, oldest first.

    Means over windows, steps and heads; each adds up to 1. Kinds: encoder, decoder, static.
    """
    names = {
        "encoder": model.encoder_variables,
        "decoder": model.decoder_variables,
        "static": model.static_variables,
    }
    model.eval()
    sums: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        for x, _ in batches:
            seen = model(x)
            for kind, values in (
                ("encoder", seen["encoder_variables"].sum(dim=(0, 1, 2))),
                ("decoder", seen["decoder_variables"].sum(dim=(0, 1, 2))),
                ("static", seen["static_variables"].flatten(1).sum(dim=0)),
                ("attention", seen["encoder_attention"].sum(dim=(0, 1, 2))),
            ):
                sums[kind] = sums.get(kind, torch.zeros_like(values)) + values
    shares = {kind: dict(zip(names[kind], _shares(sums[kind]).tolist(), strict=True)) for kind in names}
    return shares, _shares(sums["attention"])


def _shares(values: torch.Tensor) -> FloatArray:
    numbers = values.cpu().numpy().astype(np.float64)
    return np.asarray(numbers / max(float(numbers.sum()), 1e-12))
