"""Linear interpolation along the features as a matrix product.

On CUDA the interpolation that pytorch-forecasting uses has no deterministic backward pass, and is slow.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it
from pytorch_forecasting.models.temporal_fusion_transformer.sub_modules import TimeDistributedInterpolation
from torch import Tensor, nn


@cache
def resampling(size: int, output_size: int, device: torch.device) -> Tensor:
    """Linear interpolation from `size` to `output_size` values as a matrix, (size, output_size)."""
    with torch.inference_mode(mode=False):  # kept for training too, whoever asked first
        identity = torch.eye(size, device=device).unsqueeze(1)
        return F.interpolate(identity, output_size, mode="linear", align_corners=True).squeeze(1)


class MatrixInterpolation(nn.Module):
    """From any number of features to `output_size`, (…, n) to (…, output_size)."""

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, features: Tensor) -> Tensor:
        matrix = resampling(features.shape[-1], self.output_size, features.device)
        return features @ matrix.to(features.dtype)


def interpolate_by_matrix(network: nn.Module) -> None:
    """Replace every interpolation in a stock network; none of them has parameters."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, TimeDistributedInterpolation):
                setattr(module, name, MatrixInterpolation(child.output_size))
