"""Our layout and scaling in pytorch-forecasting's own terms, so that its classes alone can open the result.

Everything here ends up in the checkpoint: only classes of pytorch-forecasting, scikit-learn, pandas, torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pytorch_forecasting.data.encoders import (
    EncoderNormalizer,
    GroupNormalizer,
    MultiNormalizer,
    NaNLabelEncoder,
    TorchNormalizer,
)
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from pytorch_forecasting.utils import get_embedding_size
from sklearn.preprocessing import StandardScaler
from torch import nn

from trainer.layout import SERIES, TIME_INDEX

if TYPE_CHECKING:
    import numpy.typing as npt

    from trainer.layout import Layout
    from trainer.scaling import Scaling
    from trainer.spec import TrainingSpec

# An attention mask for half precision: -1e9, pytorch-forecasting's own, does not fit float16. In float32 the
# softmax gives exactly zero for both.
MASK_BIAS = -3e4


def target_normalizer(layout: Layout, scaling: Scaling) -> Any:
    """The normalizer of the targets, fitted."""
    one_each = [_target_normalizer(scaling, index) for index in range(len(layout.targets))]
    if len(one_each) == 1:
        return one_each[0]
    several = MultiNormalizer(one_each)
    several.fitted_ = True
    return several


def _target_normalizer(scaling: Scaling, index: int) -> Any:
    method = "robust" if scaling.robust else "standard"
    if scaling.target is not None:
        return _group_normalizer(scaling.target[:, index], method, _codes(scaling))
    if scaling.per_window:
        return _fitted(EncoderNormalizer(method=method))
    return _fitted(TorchNormalizer(method="identity"))


def _fitted(normalizer: Any) -> Any:
    normalizer.center_, normalizer.scale_ = np.float32(0.0), np.float32(1.0)
    return normalizer


def _group_normalizer(scales: npt.NDArray[np.float64], method: str, keys: list[Any]) -> Any:
    """`scales` (n_series, 2), the floor already in them."""
    normalizer = GroupNormalizer(method=method, groups=[SERIES])
    # Of plain objects: pandas keeps strings in pyarrow arrays, and the checkpoint would not open without it.
    index = pd.Index(keys, dtype=object if isinstance(keys[0], str) else None, name=SERIES)
    columns = pd.Index(["center", "scale"], dtype=object)
    normalizer.norm_ = pd.DataFrame(scales, index=index, columns=columns)
    normalizer.missing_ = normalizer.norm_.median().to_dict()
    return normalizer


def _codes(scaling: Scaling) -> list[Any]:
    return list(range(1, len(scaling.series) + 1))


def _standard_scaler(name: str, mean: float, deviation: float) -> StandardScaler:
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = np.array([mean]), np.array([deviation])
    scaler.var_, scaler.n_samples_seen_ = np.array([deviation**2]), np.int64(1)
    scaler.n_features_in_, scaler.feature_names_in_ = 1, np.array([name], dtype=object)
    return scaler


def _label_encoder(names: list[str]) -> Any:
    """An encoder with code 0 for the unknown."""
    return NaNLabelEncoder(add_nan=True, warn=False).fit(pd.Series(names, dtype=object))


def dataset_parameters(layout: Layout, scaling: Scaling, spec: TrainingSpec) -> dict[str, Any]:
    """What `TimeSeriesDataSet.from_parameters` takes, complete: nothing is fitted again."""
    targets = layout.target_inputs
    scalers: dict[str, Any] = dict.fromkeys(layout.known_inputs)
    for index, name in enumerate(layout.known):
        inside = layout.internal[name]
        scalers[inside] = _standard_scaler(inside, *scaling.known[index])
    # pytorch-forecasting encodes the series before it scales only where the targets need that.
    encoded = len(targets) > 1 or scaling.target is not None
    keys = _codes(scaling) if encoded else list(scaling.series)
    for index, name in enumerate(layout.observed):
        scalers[layout.internal[name]] = _group_normalizer(scaling.observed[:, index], "standard", keys)
    encoders = {
        inside: _label_encoder(scaling.categories[name]) for name, inside in layout.internal_statics.items()
    }
    # Both of them, alike: pytorch-forecasting looks scales up by the second and fits them by the first.
    encoders[SERIES] = _label_encoder(list(scaling.series))
    encoders[f"__group_id__{SERIES}"] = _label_encoder(list(scaling.series))
    return {
        "time_idx": TIME_INDEX,
        "target": targets if len(targets) > 1 else targets[0],
        "group_ids": [SERIES],
        "weight": None,
        "max_encoder_length": spec.encoder_length,
        "min_encoder_length": spec.encoder_length,
        "min_prediction_idx": None,  # stored, it would silently drop earlier data
        "min_prediction_length": spec.horizon,
        "max_prediction_length": spec.horizon,
        "static_categoricals": layout.static_inputs,
        "static_reals": None,
        "time_varying_known_categoricals": None,
        "time_varying_known_reals": layout.known_inputs[:-1],
        "time_varying_unknown_categoricals": None,
        "time_varying_unknown_reals": layout.unknown_inputs,
        "variable_groups": None,
        "constant_fill_strategy": None,
        "allow_missing_timesteps": False,
        "lags": None,
        "add_relative_time_idx": True,
        "add_target_scales": False,
        "add_encoder_length": False,
        "target_normalizer": target_normalizer(layout, scaling),
        "categorical_encoders": encoders,
        "scalers": scalers,
        "randomize_length": None,
        "predict_mode": False,
    }


def loss(spec: TrainingSpec, targets: int) -> Any:
    """pytorch-forecasting's loss for this spec; ours trains in scaled space, this one defines the outputs."""
    if targets == 1:
        return QuantileLoss(quantiles=list(spec.quantiles))
    return MultiLoss([QuantileLoss(quantiles=list(spec.quantiles)) for _ in range(targets)])


def network_arguments(layout: Layout, scaling: Scaling, spec: TrainingSpec) -> dict[str, Any]:
    """What `TemporalFusionTransformer(...)` takes to build the network its `from_dataset` would build.

    But for the unknown category: there its embedding is a padding that is never trained, here it is trained.
    """
    quantiles = len(spec.quantiles)
    categories = {
        inside: len(scaling.categories[name]) + 1 for name, inside in layout.internal_statics.items()
    }
    return {
        "hidden_size": spec.hidden_size,
        "lstm_layers": spec.lstm_layers,
        "dropout": spec.dropout,
        "output_size": quantiles if len(layout.targets) == 1 else [quantiles] * len(layout.targets),
        "loss": loss(spec, len(layout.targets)),
        "attention_head_size": spec.attention_head_size,
        "max_encoder_length": spec.encoder_length,
        "static_categoricals": layout.static_inputs,
        "static_reals": [],
        "time_varying_categoricals_encoder": [],
        "time_varying_categoricals_decoder": [],
        "categorical_groups": {},
        "time_varying_reals_encoder": [*layout.known_inputs, *layout.unknown_inputs],
        "time_varying_reals_decoder": layout.known_inputs,
        "x_reals": layout.reals,
        "x_categoricals": layout.static_inputs,
        "hidden_continuous_size": spec.hidden_continuous_size,
        "embedding_sizes": {name: (count, get_embedding_size(count)) for name, count in categories.items()},
        "embedding_paddings": [],
        "learning_rate": spec.learning_rate,
        "weight_decay": spec.weight_decay,
        "optimizer": spec.optimizer,
        "log_interval": -1,
        "logging_metrics": nn.ModuleList([]),
        "mask_bias": MASK_BIAS,
    }


def outer_arguments(layout: Layout, parameters: dict[str, Any]) -> dict[str, Any]:
    """The rest of the arguments, which the network does not need but a loaded checkpoint does.

    Kept out of the constructor while training: pytorch-forecasting dumps each argument to YAML there, which
    takes seconds for thousands of series.
    """
    encoders = parameters["categorical_encoders"]
    return {
        "embedding_labels": {name: encoders[name].classes_ for name in layout.static_inputs},
        "output_transformer": parameters["target_normalizer"],
    }
