"""Forecasts with a trained network: of the future, for servers it was trained on and for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainer import stock
from trainer.bundle import InvalidBundle
from trainer.forecasting import forecast, forward_batch_size
from trainer.model import build_model
from trainer.noise import library_noise_off
from trainer.split import Windows
from trainer.windows import WindowSource

if TYPE_CHECKING:
    from trainer.bundle import Bundle
    from trainer.dataset.series import SeriesData
    from trainer.future import Future
    from trainer.model import ForecastModel

CPU = torch.device("cpu")


def load_model(bundle: Bundle) -> ForecastModel:
    """The network with its weights, in evaluation mode. Raises InvalidBundle."""
    try:
        with library_noise_off():
            model = build_model(stock.network_arguments(bundle.layout, bundle.scaling, bundle.spec))
        model.load_state_dict(load_file(bundle.weights))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidBundle(
            f"{bundle.weights} does not hold the weights of the network in model.json"
        ) from error
    model.eval()
    return model


def forecast_future(bundle: Bundle, future: Future) -> npt.NDArray[np.float32]:
    """Published quantiles of every series, (n, horizon, n_targets, n_quantiles): sorted and calibrated.

    NaN for a target that the encoder of its series has no value of. Raises InvalidBundle.
    """
    count = len(future.origins)
    windows = Windows(np.arange(count), future.origins, np.ones(count, np.int64), 1)
    published = forecast_windows(load_model(bundle), bundle, future.series, windows, future.origins)
    published[~np.broadcast_to(future.seen[:, None], published.shape[:3])] = np.nan
    return published


def forecast_windows(
    model: ForecastModel,
    bundle: Bundle,
    series: SeriesData,
    windows: Windows,
    history_end: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Published quantiles of windows of any series, in order: (n, horizon, n_targets, n_quantiles).

    Series that are new to the network are scaled by what they hold before `history_end` (n_series,), an
    exclusive global row.
    """
    source = WindowSource(
        series,
        bundle.layout,
        bundle.scaling,
        encoder_length=bundle.spec.encoder_length,
        horizon=bundle.spec.horizon,
        device=CPU,
        history_end=history_end,
    )
    batch_size = forward_batch_size(bundle.spec, bundle.layout, CPU)
    raw = forecast(model, source, windows, batch_size)
    ordered = np.sort(raw, axis=-1)
    return ordered if bundle.calibration is None else bundle.calibration.apply(ordered).astype(np.float32)
