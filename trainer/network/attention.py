"""The stock interpretable attention, all heads in one product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - what everybody calls it
from torch import Tensor

from trainer.network.fused import dropped

if TYPE_CHECKING:
    from trainer.network.gating import Groups


def attention_groups(module: Any) -> Groups:
    """The parameters that `attend` looks for."""
    return {
        "query.weight": [layer.weight for layer in module.q_layers],
        "query.bias": [layer.bias for layer in module.q_layers],
        "key.weight": [layer.weight for layer in (*module.k_layers, module.v_layer)],
        "key.bias": [layer.bias for layer in (*module.k_layers, module.v_layer)],
    }


def attend(
    module: Any, parts: dict[str, Tensor], memory: Tensor, mask: Tensor, rate: float
) -> tuple[Tensor, Tensor]:
    """The stock InterpretableMultiHeadAttention `module`; its parameters are taken from `parts`.

    `memory` (T, B, H), the last D steps of which ask; `mask` (D, T) is added to the scores. Returns
    the output (D, B, H) and the attention (B, D, heads, T).
    """
    heads, width = module.n_head, module.d_k
    steps, size, _ = memory.shape
    queries = _linear(memory[-len(mask) :], parts, "query").view(-1, size, heads, width).permute(1, 2, 0, 3)
    # The one value head lies beside the key heads.
    keys = _linear(memory, parts, "key").view(steps, size, heads + 1, width).permute(1, 2, 3, 0)
    values = keys[:, heads].transpose(1, 2)
    scores = torch.matmul(queries * width**-0.5, keys[:, :heads])
    attention = (scores + mask).softmax(-1)
    seen = torch.bmm(attention.flatten(1, 2).to(values.dtype), values).view(size, heads, -1, width)
    seen = dropped(seen, rate).mean(1)
    output = dropped(module.w_h(seen.transpose(0, 1)), rate)
    return output, attention.transpose(1, 2)


def _linear(x: Tensor, parts: dict[str, Tensor], name: str) -> Tensor:
    """All heads' projections side by side."""
    return F.linear(x, parts[f"{name}.weight"].flatten(0, 1), parts[f"{name}.bias"].flatten())
