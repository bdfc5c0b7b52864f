"""Open a model that foretrain trained with stock pytorch-forecasting alone, and repeat its forecasts.

    pip install pytorch-forecasting lightning pyarrow
    python stock_example.py

Takes model.ckpt and example.parquet from its own folder, forecasts the windows in the example, and compares
with what the trainer forecast for them. Exits with 1 if they differ by more than rounding.
model.json says which column stands behind each inner name (m000, c000, …).
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet

HERE = Path(__file__).resolve().parent
# How far two correct computations in float32 may lie apart: a share of the target's deviation in the training
# data, or of the value itself, whichever is larger.
SHARE_OF_DEVIATION = 1e-5
SHARE_OF_VALUE = 1e-6


def main() -> int:
    warnings.filterwarnings("ignore", category=UserWarning)
    model = TemporalFusionTransformer.load_from_checkpoint(HERE / "model.ckpt", map_location="cpu").eval()
    table = pq.read_table(HERE / "example.parquet")
    about = json.loads(table.schema.metadata[b"foretrain"])
    frame = table.to_pandas()
    ours = frame[frame["is_forecast"]].sort_values(["series", "time_idx"])

    inputs = frame[about["inputs"]]
    dataset = TimeSeriesDataSet.from_parameters(model.dataset_parameters, inputs, predict=True)
    forecasts = stock_forecasts(model, dataset, about["targets"])
    order = np.argsort(dataset.decoded_index["series"].to_numpy(), kind="stable")

    worst = 0.0
    for index, (inside, target) in enumerate(about["targets"].items()):
        stock = forecasts[index][order].reshape(len(ours), -1)
        trainer = np.stack(ours[f"{inside}_raw"].to_numpy())
        allowed = np.maximum(SHARE_OF_DEVIATION * target["training_std"], SHARE_OF_VALUE * np.abs(trainer))
        difference = np.abs(stock - trainer)
        worst = max(worst, float((difference / allowed).max()))
        print(
            f"{target['column']}: {stock.shape[0]} steps x {stock.shape[1]} quantiles, largest difference "
            f"{difference.max():.3g}, that is {(difference / allowed).max():.3f} of the tolerance"
        )
    print("equal within the tolerance" if worst <= 1.0 else "DIFFERENT beyond the tolerance")
    return 0 if worst <= 1.0 else 1


def stock_forecasts(
    model: TemporalFusionTransformer, dataset: TimeSeriesDataSet, targets: dict[str, Any]
) -> list[np.ndarray]:
    """One array per target, (windows, horizon, quantiles), in the order of the dataset."""
    parts = []
    with torch.inference_mode():
        for x, _ in dataset.to_dataloader(train=False, batch_size=64, num_workers=0):
            keep_scales_above_their_floor(model, x, targets)
            prediction = model(x)["prediction"]
            parts.append(prediction if isinstance(prediction, list) else [prediction])
    return [torch.cat(part).numpy() for part in zip(*parts, strict=True)]


def keep_scales_above_their_floor(
    model: TemporalFusionTransformer, x: dict[str, Any], targets: dict[str, Any]
) -> None:
    """pytorch-forecasting scales each window by its own spread, which is next to nothing where a metric stood
    still. The trainer's scales have a floor per target; here it is put into the batch.
    """
    scales = x["target_scale"] if isinstance(x["target_scale"], list) else [x["target_scale"]]
    for scale, (inside, target) in zip(scales, targets.items(), strict=True):
        floored = scale[:, 1].clamp(min=target["floor"])
        position = model.hparams.x_reals.index(inside)
        for part in ("encoder_cont", "decoder_cont"):
            x[part][..., position] *= (scale[:, 1] / floored)[:, None]
        scale[:, 1] = floored


if __name__ == "__main__":
    sys.exit(main())
