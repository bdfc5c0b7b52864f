from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from trainer.network.fused import gated_norm, gated_sum, inner_layer, keep_mask


@pytest.mark.parametrize("rate", [0.003, 0.1, 0.5, 0.9])
def test_a_mask_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(100, 1000, 1), 10, rate)

    assert mask is not None
    assert mask.shape == (100, 1000, 10)
    share = float((mask == 0.0).float().mean())
    error = (rate * (1.0 - rate) / mask.numel()) ** 0.5
    assert abs(share - rate) < 5.0 * error
    assert torch.unique(mask).tolist() == pytest.approx([0.0, 1.0 / (1.0 - rate)], rel=1e-4)


def test_neighbours_in_a_mask_are_independent() -> None:
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(1, 200_000, 1), 8, 0.5)

    assert mask is not None
    together = torch.corrcoef((mask[0] > 0.0).float().t())
    assert float((together - torch.eye(8)).abs().max()) < 0.02


def test_no_rate_makes_no_mask() -> None:
    assert keep_mask(torch.empty(2, 3), 4, 0.0) is None


def test_derivatives_are_those_of_finite_differences() -> None:
    """In float64, where they can be told apart from rounding."""
    torch.manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    x, weight, bias, norm = some(2, 5, 3), some(2, 8, 3), some(2, 8), (some(2, 4), some(2, 4))
    assert torch.autograd.gradcheck(lambda a, w, b: inner_layer(a, w, b, 0.0), (x, some(2, 3, 3), some(2, 3)))
    assert torch.autograd.gradcheck(
        lambda a, w, b, s, n, m: gated_norm(a, w, b, s, (n, m)), (x, weight, bias, some(2, 5, 4), *norm)
    )
    assert torch.autograd.gradcheck(
        lambda a, w, b, f, s, n, m, v: gated_sum(a, w, b, (f, s), (n, m), v),
        (x, weight, bias, some(2, 5, 3), some(2, 3, 4), *norm, some(2, 5)),
    )


def test_the_gated_norm_is_torchs_glu_and_layer_norm() -> None:
    torch.manual_seed(0)
    x, weight, bias, skip = (
        torch.randn(1, 5, 3),
        torch.randn(1, 8, 3),
        torch.randn(1, 8),
        torch.randn(1, 5, 4),
    )
    scale, shift = torch.randn(1, 4), torch.randn(1, 4)

    expected = functional.layer_norm(
        functional.glu(functional.linear(x[0], weight[0], bias[0])) + skip[0], (4,), scale[0], shift[0]
    )

    torch.testing.assert_close(gated_norm(x, weight, bias, skip, (scale, shift))[0], expected)
