"""Open a model that foretrain trained with stock pytorch-forecasting alone, and repeat its forecasts.

    pip install pytorch-forecasting lightning
    python stock_example.py

Takes model.ckpt and example.json from its own folder, forecasts the windows in the example, and compares
with what the trainer forecast for them. Exits with 1 if they differ by more than rounding.
model.json says which column stands behind each inner name (m000, c000, …).

One server of the example is new to the model, which takes its name for "unknown". Where the scale belongs to
the server (normalizer series_*, observed covariates), it is that of the server's own history; stock
pytorch-forecasting would take the fleet's median instead, see put_in_own_scales.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
    example = json.loads((HERE / "example.json").read_text(encoding="utf-8"))
    about, frame = example["about"], pd.DataFrame(example["columns"])
    ours = frame[frame["is_forecast"]].sort_values(["series", "time_idx"])

    inputs = frame[about["inputs"]]
    dataset = TimeSeriesDataSet.from_parameters(model.dataset_parameters, inputs, predict=True)
    names, forecasts = stock_forecasts(model, dataset, frame, about)
    order = np.argsort(names, kind="stable")

    worst = 0.0
    for index, (inside, target) in enumerate(about["targets"].items()):
        stock = forecasts[index][order].reshape(len(ours), -1)
        trainer = np.array(ours[f"{inside}_raw"].tolist())
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
    model: TemporalFusionTransformer,
    dataset: TimeSeriesDataSet,
    frame: pd.DataFrame,
    about: dict[str, Any],
) -> tuple[list[str], list[np.ndarray]]:
    """The series of each window, and one array per target, (windows, horizon, quantiles)."""
    # Not decoded_index: it fails on a server that the model does not know.
    codes = model.dataset_parameters["categorical_encoders"]["__group_id__series"].classes_
    series_of = {code: name for name, code in codes.items()}
    (new,) = set(frame["series"]) - set(codes)
    names: list[str] = []
    parts = []
    with torch.inference_mode():
        for x, _ in dataset.to_dataloader(train=False, batch_size=64, num_workers=0):
            keep_scales_above_their_floor(model, x, about["targets"])
            in_batch = [series_of.get(code, new) for code in x["groups"][:, 0].tolist()]
            put_in_own_scales(model, x, in_batch, frame, about)
            names += in_batch
            prediction = model(x)["prediction"]
            parts.append(prediction if isinstance(prediction, list) else [prediction])
    return names, [torch.cat(part).numpy() for part in zip(*parts, strict=True)]


def put_in_own_scales(
    model: TemporalFusionTransformer,
    x: dict[str, Any],
    names: list[str],
    frame: pd.DataFrame,
    about: dict[str, Any],
) -> None:
    """Scale new servers by their own history: its median and half interquartile range (series_robust) or mean
    and deviation, no less than the floor in model.json. They stand in the columns …_centre and …_scale.
    """
    targets = list(about["targets"])
    scales = x["target_scale"] if isinstance(x["target_scale"], list) else [x["target_scale"]]
    for place, name in enumerate(names):
        window = frame[frame["series"] == name].sort_values("time_idx")
        if window["known"].all():
            continue
        for inside in about["scaled_by_server"]:
            centre, scale = window[f"{inside}_centre"].iloc[0], window[f"{inside}_scale"].iloc[0]
            scaled = torch.tensor(((window[inside] - centre) / scale).to_numpy(np.float32))
            position, past = model.hparams.x_reals.index(inside), x["encoder_cont"].shape[1]
            x["encoder_cont"][place, :, position] = scaled[:past]
            x["decoder_cont"][place, :, position] = scaled[past:]
            if inside in targets:
                scales[targets.index(inside)][place] = torch.tensor([centre, scale])


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
