"""The whole training step of the kernels, against the stock network and its loss written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer
from torch import Tensor

from trainer.flat_parameters import FlatParameters
from trainer.loss import observed_mean, quantile_loss, stacked
from trainer.network import TrainingStep, fits_step, in_step_order
from trainer.network.compiled import WIDEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeCase = Callable[..., Any]

LEVELS = torch.tensor([0.1, 0.5, 0.9])
WINDOWS = 37  # whole chunks and a partial one, whatever their size
SHAPES: list[dict[str, Any]] = [
    {},
    {"targets": 4, "masked": True},
    {"statics": 0, "targets": 2},
    {"static_reals": 1},
    {"known": 1},
    {"hidden_continuous_size": 8, "masked": True},
    {"hidden_continuous_size": 13, "targets": 2},
    {"hidden_continuous_size": 1},
    {"attention_head_size": 1},
    {"causal_attention": False},
    {"hidden_size": 12, "attention_head_size": 3, "horizon": 5},
    {"hidden_size": WIDEST, "attention_head_size": 2},
]


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def batch_of(case: Any, *, masked: bool) -> Any:
    """Windows as the loader gives them: the targets are strided, and some steps not observed."""
    x = case.batch(WINDOWS)
    random = torch.Generator().manual_seed(3)
    targets = torch.randn(WINDOWS, case.encoder + case.horizon, case.targets, generator=random)
    ahead = targets[:, case.encoder :]
    scale = torch.rand(WINDOWS, case.targets, 2, generator=random) + 0.5
    weights = (torch.rand(ahead.shape, generator=random) > 0.3).float() if masked else None

    def listed(values: Tensor, axis: int) -> Any:
        parts = list(values.unbind(axis))
        return parts if len(parts) > 1 else parts[0]

    x["target_scale"] = listed(scale, 1)
    return x, (listed(ahead, -1), None if weights is None else listed(weights, -1))


def in_double(values: Any) -> Any:
    """The same batch in float64, in which the stock network's gradients are exact enough to compare with."""
    if isinstance(values, Tensor):
        return values.double() if values.is_floating_point() else values
    if isinstance(values, dict):
        return {name: in_double(value) for name, value in values.items()}
    return type(values)(in_double(value) for value in values) if isinstance(values, list | tuple) else values


def written_out(network: Any, batch: Any) -> tuple[Tensor, Tensor]:
    """Both losses, by torch's own operations."""
    x, (actual, weights) = batch
    scale = stacked(x["target_scale"])
    scaled = (stacked(actual) - scale[:, None, 0]) / scale[:, None, 1]
    observed = None if weights is None else stacked(weights)
    forecast = stacked(network({**x, "target_scale": None})["prediction"])
    return observed_mean(quantile_loss(forecast, scaled, LEVELS.to(scaled)), observed), observed_mean(
        scaled.abs(), observed
    )


def step_of(network: Any) -> tuple[FlatParameters, TrainingStep]:
    flat = FlatParameters(in_step_order(network))
    return flat, TrainingStep(network, flat, LEVELS)


def learn(
    network: Any, flat: FlatParameters, step: TrainingStep, batch: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Both losses, and the gradient of all parameters."""
    flat.drop_gradients()
    loss, idle = step.losses(batch, network._static_embedding(batch[0])[0])
    torch.autograd.backward(loss)
    flat.gather_gradients()
    return loss.detach(), idle, flat.gradient.clone()


def test_losses_and_gradients_are_those_of_the_stock_network(case: MakeCase, shape: dict[str, Any]) -> None:
    masked = shape.pop("masked", False)
    stock, fast = case(**shape).twins()
    batch = batch_of(case(**shape), masked=masked)
    flat, step = step_of(fast.train())

    assert fits_step(fast, batch[0])
    expected, expected_idle = written_out(stock.train().double(), in_double(batch))
    torch.autograd.backward(expected)
    loss, idle, gradient = learn(fast, flat, step, batch)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert idle.item() == pytest.approx(expected_idle.item(), rel=1e-5)
    theirs = {name: parameter.grad for name, parameter in stock.named_parameters()}
    # What nearly cancels is compared with the others: its own digits are lost in float32.
    least = 0.03 * max(float(own.abs().max()) for own in theirs.values() if own is not None)
    for name, parameter in fast.named_parameters():
        start, own = flat.start_of(parameter), theirs[name]
        found = gradient[start : start + parameter.numel()].view_as(parameter)
        wanted = torch.zeros_like(parameter) if own is None else own
        limit = 1e-4 * max(least, float(wanted.abs().max()))
        assert float((found - wanted).abs().max()) <= limit, name


@pytest.mark.usefixtures("threads")
def test_threads_change_nothing_but_the_order_of_sums(case: MakeCase) -> None:
    shape = case(targets=2, dropout=0.2)
    _, fast = shape.twins()
    flat, step = step_of(fast.train())
    found = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(5)
        found.append(learn(fast, flat, step, batch_of(shape, masked=False)))

    alone, together, again = found
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(together, again, strict=True))


def test_dropout_is_the_same_forth_and_back(case: MakeCase) -> None:
    """By finite differences along the gradient, which hold only where both passes drop the same."""
    shape = case(dropout=0.5)
    _, fast = shape.twins()
    flat, step = step_of(fast.train())
    batch = batch_of(shape, masked=False)

    def loss_at(distance: float, direction: Tensor) -> tuple[float, Tensor]:
        with torch.no_grad():
            flat.whole.add_(direction, alpha=distance)
        torch.manual_seed(7)
        loss, _, gradient = learn(fast, flat, step, batch)
        with torch.no_grad():
            flat.whole.sub_(direction, alpha=distance)
        return loss.item(), gradient

    nothing = torch.zeros_like(flat.whole)
    _, gradient = loss_at(0.0, nothing)
    direction = gradient / gradient.norm()
    slope = (loss_at(1e-2, direction)[0] - loss_at(-1e-2, direction)[0]) / 2e-2

    assert slope == pytest.approx(float(gradient.norm()), rel=0.02)


def test_every_step_drops_anew_and_nothing_is_dropped_in_evaluation(case: MakeCase) -> None:
    shape = case(dropout=0.5)
    stock, fast = shape.twins()
    flat, step = step_of(fast.train())
    batch = batch_of(shape, masked=False)

    trained = [learn(fast, flat, step, batch)[0].item() for _ in range(5)]
    fast.eval()
    evaluated = learn(fast, flat, step, batch)[0].item()

    assert len(set(trained)) == 5
    assert evaluated == pytest.approx(written_out(stock.eval(), batch)[0].item(), rel=1e-5)


def test_gradients_of_several_batches_add_up(case: MakeCase) -> None:
    _, fast = case().twins()
    flat, step = step_of(fast.train())
    batch = batch_of(case(), masked=False)
    _, _, once = learn(fast, flat, step, batch)

    flat.drop_gradients()
    for share in (0.25, 0.5):
        loss, _ = step.losses(batch, fast._static_embedding(batch[0])[0])
        torch.autograd.backward(loss * share)
        flat.gather_gradients()

    torch.testing.assert_close(flat.gradient, 0.75 * once, rtol=1e-5, atol=1e-8)


def test_a_loss_that_is_no_number_reaches_the_gradient(case: MakeCase) -> None:
    """What leaves out bad steps looks for it there."""
    _, fast = case().twins()
    flat, step = step_of(fast.train())
    x, (actual, weights) = batch_of(case(), masked=False)
    actual = actual.clone()
    actual[3, 1] = torch.nan

    loss, _, gradient = learn(fast, flat, step, (x, (actual, weights)))

    assert loss.isnan()
    assert gradient.isnan().any()


def test_shapes_that_the_kernels_do_not_take_are_left_to_torch(case: MakeCase) -> None:
    _, deep = case(lstm_layers=2).twins()
    _, kernels_off = case().twins()
    kernels_off.kernels = False

    assert isinstance(deep, TemporalFusionTransformer)
    assert not fits_step(deep, case().batch())
    assert not fits_step(kernels_off, case().batch())
