from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from trainer.native.library import why_no_kernels
from trainer.network import FastTransformer

if TYPE_CHECKING:
    from collections.abc import Callable

    MakeCase = Callable[..., Any]

SHAPES: list[dict[str, Any]] = [
    {},
    {"targets": 2},
    {"targets": 4},
    {"statics": 0},
    {"statics": 3},
    {"static_reals": 1},
    {"known": 1},
    {"lstm_layers": 2},
    {"hidden_continuous_size": 8},
    {"hidden_continuous_size": 13},
    {"hidden_continuous_size": 1},
    {"hidden_continuous_size": 2},
    {"attention_head_size": 1},
    {"causal_attention": False},
    {"hidden_size": 12, "attention_head_size": 3, "horizon": 5},
]
# Softmax does not see them: their gradient is zero but for rounding.
WITHOUT_EFFECT = "k_layers"


@pytest.fixture(params=[True, False], ids=["kernels", "torch"], autouse=True)
def _kernels_or_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is asked of both ways to compute the network."""
    assert not request.param or why_no_kernels() is None
    monkeypatch.setattr(FastTransformer, "kernels", request.param)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def fast_path_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock forward pass, were it called by the fast network, would fail."""

    def refuse(self: Any, x: Any) -> None:  # noqa: ARG001
        raise AssertionError

    monkeypatch.setattr(FastTransformer.__bases__[0], "forward", refuse)


def as_list(value: Any) -> list[Tensor]:
    return value if isinstance(value, list) else [value]


def total(output: Any) -> Tensor:
    """A loss that each forecast enters differently."""
    parts: list[Tensor] = [
        (part * torch.linspace(-1.0, 2.0, part.numel()).view_as(part)).mean()
        for part in as_list(output["prediction"])
    ]
    return torch.stack(parts).sum()


def test_the_state_dicts_are_interchangeable(case: MakeCase, shape: dict[str, Any]) -> None:
    stock, fast = case(**shape).twins()

    ours, theirs = fast.state_dict(), stock.state_dict()

    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in theirs.items()}
    fast(case(**shape).batch())  # and remain so
    stock.load_state_dict(fast.state_dict(), strict=True)


def test_every_output_is_the_stock_one(case: MakeCase, shape: dict[str, Any]) -> None:
    stock, fast = case(**shape).twins()
    x = case(**shape).batch()

    theirs, ours = stock.eval()(x), fast.eval()(x)

    assert list(ours.keys()) == list(theirs.keys())
    for name in theirs.keys():  # noqa: SIM118 - a named tuple with the keys of a dict
        for one, other in zip(as_list(ours[name]), as_list(theirs[name]), strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=1e-5, msg=name)


def test_every_gradient_is_the_stock_one(case: MakeCase, shape: dict[str, Any]) -> None:
    stock, fast = case(**shape).twins()
    x = case(**shape).batch()

    total(stock(x)).backward()  # type: ignore[no-untyped-call]
    total(fast(x)).backward()  # type: ignore[no-untyped-call]

    theirs = {name: parameter.grad for name, parameter in stock.named_parameters()}
    for name, parameter in fast.named_parameters():
        expected = torch.zeros_like(parameter) if theirs[name] is None else theirs[name]
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        unseen = WITHOUT_EFFECT in name and name.endswith("bias")
        limit = 1e-6 if unseen else 1e-4 * float(expected.abs().max()) + 1e-8
        assert float((found - expected).abs().max()) <= limit, name


@pytest.mark.usefixtures("fast_path_only")
def test_full_windows_never_take_the_stock_path(case: MakeCase, shape: dict[str, Any]) -> None:
    _, fast = case(**shape).twins()

    assert torch.isfinite(total(fast(case(**shape).batch())))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_ragged_windows_go_through_the_stock_path(case: MakeCase, part: str) -> None:
    stock, fast = case().twins()
    x = case().batch()
    x[f"{part}_lengths"] = x[f"{part}_lengths"].clone()
    x[f"{part}_lengths"][1:3] = 2

    theirs, ours = stock.eval()(x), fast.eval()(x)

    assert torch.equal(ours["prediction"], theirs["prediction"])


@pytest.mark.usefixtures("fast_path_only")
def test_lengths_are_not_looked_at_where_the_caller_vouches_for_them(case: MakeCase) -> None:
    _, fast = case().twins()
    x = case().batch()
    fast.full_windows = True

    expected = fast.eval()(x)["prediction"]
    x["encoder_lengths"] = torch.zeros_like(x["encoder_lengths"])

    assert torch.equal(fast(x)["prediction"], expected)


@pytest.mark.slow
def test_twenty_steps_of_adam_follow_the_stock_loss(case: MakeCase) -> None:
    shape = case(targets=2)
    twins, x = shape.twins(), shape.batch(32)
    actual = torch.randn(32, shape.horizon, 1, generator=torch.Generator().manual_seed(2))
    curves: list[list[float]] = []
    for network in twins:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        curve = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = torch.stack([(part - actual).abs().mean() for part in network(x)["prediction"]]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            curve.append(loss.item())
        curves.append(curve)

    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[1][-1] < curves[1][0] - 0.01


def test_dropout_is_drawn_from_torchs_generator(case: MakeCase) -> None:
    _, fast = case(dropout=0.3).twins()
    x = case().batch()

    torch.manual_seed(5)
    first, second = fast(x)["prediction"], fast(x)["prediction"]
    torch.manual_seed(5)

    assert torch.equal(fast(x)["prediction"], first)
    assert not torch.equal(second, first)


@pytest.mark.slow
def test_dropout_of_many_draws_is_that_of_the_stock_network(case: MakeCase) -> None:
    """As many draws of each: means within the error of a mean, spreads alike."""
    stock, fast = case(dropout=0.2).twins()
    x = case().batch(4)
    torch.manual_seed(3)
    with torch.no_grad():
        theirs, ours = (
            torch.stack([network(x)["prediction"] for _ in range(200)]) for network in (stock, fast)
        )

    error = (theirs.var(0) + ours.var(0)).div(200).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() / error).max() < 5.0
    assert float(ours.std(0).mean()) == pytest.approx(float(theirs.std(0).mean()), rel=0.1)


def test_nothing_is_dropped_in_evaluation(case: MakeCase) -> None:
    _, fast = case(dropout=0.3).twins()
    x = case().batch()
    fast.eval()

    assert torch.equal(fast(x)["prediction"], fast(x)["prediction"])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
def test_it_trains_under_autocast(case: MakeCase, kind: torch.dtype) -> None:
    stock, fast = case(targets=2).twins()
    x = case(targets=2).batch()
    expected = torch.stack(stock(x)["prediction"])

    with torch.autocast("cpu", kind):
        output = fast(x)
    torch.stack(output["prediction"]).float().sum().backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(torch.stack(output["prediction"]).float(), expected, rtol=0.05, atol=0.1)
    assert all(
        parameter.dtype == torch.float32 and bool(torch.isfinite(parameter.grad).all())
        for parameter in fast.parameters()
        if parameter.grad is not None
    )


def test_the_heads_are_called_as_modules(case: MakeCase) -> None:
    class Zero(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return hidden[..., :3] * 0.0

    _, fast = case().twins()
    fast.output_layer = Zero()

    assert not fast(case().batch())["prediction"].any()


def test_accumulated_gradients_add_up(case: MakeCase) -> None:
    _, fast = case().twins()
    x = case().batch()
    total(fast(x)).backward()  # type: ignore[no-untyped-call]
    once = [parameter.grad.clone() for parameter in fast.parameters() if parameter.grad is not None]
    total(fast(x)).backward()  # type: ignore[no-untyped-call]
    twice = [parameter.grad for parameter in fast.parameters() if parameter.grad is not None]

    for one, two in zip(once, twice, strict=True):
        torch.testing.assert_close(two, 2.0 * one)


def test_parameters_that_move_or_change_are_seen(case: MakeCase) -> None:
    """Their places are remembered, their values never."""
    stock, fast = case().twins()
    x = case().batch()
    fast(x)

    for network in (stock, fast):
        network.double()
        network.float()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(0.9)

    torch.testing.assert_close(fast(x)["prediction"], stock(x)["prediction"], rtol=0.0, atol=1e-5)
