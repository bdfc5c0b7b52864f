"""Twins: the stock network and the fast one with the same parameters, and batches for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.metrics import MultiLoss, QuantileLoss
from torch import Tensor, nn

from trainer.network import FastTransformer

if TYPE_CHECKING:
    from collections.abc import Callable

QUANTILES = [0.1, 0.5, 0.9]
CATEGORIES = 5


class ScaledSpace:
    """No rescaling: the networks are compared in the space they are trained in."""

    def transform_output(self, prediction: Any, target_scale: Any, loss: Any = None) -> Any:  # noqa: ARG002
        return prediction


class Stock(ScaledSpace, TemporalFusionTransformer):  # type: ignore[misc] # untyped library
    pass


class Fast(ScaledSpace, FastTransformer):
    pass


@dataclass(frozen=True)
class Case:
    targets: int = 1
    known: int = 3
    statics: int = 1
    static_reals: int = 0
    encoder: int = 6
    horizon: int = 3
    dropout: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()

    def arguments(self) -> dict[str, Any]:
        known = [f"known{index}" for index in range(self.known)]
        unknown = [f"target{index}" for index in range(self.targets)]
        fixed = [f"fixed{index}" for index in range(self.static_reals)]
        categories = [f"category{index}" for index in range(self.statics)]
        several = self.targets > 1
        losses = [QuantileLoss(quantiles=QUANTILES) for _ in range(self.targets)]
        return {
            "hidden_size": 8,
            "hidden_continuous_size": 4,
            "attention_head_size": 2,
            "dropout": self.dropout,
            "output_size": [3] * self.targets if several else 3,
            "loss": MultiLoss(losses) if several else losses[0],
            "max_encoder_length": self.encoder,
            "static_categoricals": categories,
            "static_reals": fixed,
            "time_varying_categoricals_encoder": [],
            "time_varying_categoricals_decoder": [],
            "categorical_groups": {},
            "time_varying_reals_encoder": [*known, *unknown],
            "time_varying_reals_decoder": known,
            "x_reals": [*fixed, *known, *unknown],
            "x_categoricals": categories,
            "embedding_sizes": dict.fromkeys(categories, (CATEGORIES, 3)),
            "embedding_paddings": [],
            "logging_metrics": nn.ModuleList([]),
            "mask_bias": -3e4,
            **dict(self.options),
        }

    def batch(self, size: int = 7) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        reals, steps = self.static_reals + self.known + self.targets, self.encoder + self.horizon
        cont = torch.randn(size, steps, reals, generator=random)
        cat = torch.randint(CATEGORIES, (size, 1, self.statics), generator=random).expand(-1, steps, -1)
        return {
            "encoder_cont": cont[:, : self.encoder],
            "decoder_cont": cont[:, self.encoder :],
            "encoder_cat": cat[:, : self.encoder],
            "decoder_cat": cat[:, self.encoder :],
            "encoder_lengths": torch.full((size,), self.encoder),
            "decoder_lengths": torch.full((size,), self.horizon),
            "target_scale": torch.ones(size, 2),
        }

    def twins(self) -> tuple[Stock, Fast]:
        """Both with the same parameters, away from where they start: there many are zero."""
        torch.manual_seed(0)
        stock, fast = Stock(**self.arguments()), Fast(**self.arguments())
        with torch.no_grad():
            for parameter in stock.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        fast.load_state_dict(stock.state_dict(), strict=True)
        return stock, fast


@pytest.fixture(scope="session")
def case() -> Callable[..., Case]:
    def build(**changes: Any) -> Case:
        options = tuple((key, changes.pop(key)) for key in list(changes) if key not in Case.__annotations__)
        return Case(**changes, options=options)

    return build
