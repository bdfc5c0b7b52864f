from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import pytest
import torch
from pytorch_forecasting import TemporalFusionTransformer
from pytorch_forecasting.models.temporal_fusion_transformer.sub_modules import ScaledDotProductAttention

from trainer import stock
from trainer.batches import WindowBatches
from trainer.model import ForecastModel, StepPlan
from trainer.native.library import why_no_kernels
from trainer.prepare import PreparedRun, _step_plan
from trainer.schedule import LearningRate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    PrepareSmall = Callable[..., PreparedRun]

# With and without the kernels: they draw another dropout.
GOLDEN_LOSSES = {False: 1.96941, True: 1.96561}


def first_batch(run: PreparedRun) -> Any:
    return next(iter(run.train_batches))


def stock_twin(run: PreparedRun) -> TemporalFusionTransformer:
    arguments = stock.network_arguments(run.layout, run.scaling, run.spec) | run.outer_arguments
    twin = TemporalFusionTransformer(**arguments, dataset_parameters=run.parameters)
    twin.load_state_dict(run.model.state_dict(), strict=True)
    return twin.eval()


def fit(
    model: ForecastModel,
    batches: Any,
    accumulate: int,
    clip: float | None = None,
    callbacks: list[pl.Callback] | None = None,
) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=clip,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches, batches)


def plain_plan(
    run: PreparedRun, batch_size: int, accumulate: int, windows: int, rate: float = 0.01
) -> StepPlan:
    return StepPlan(
        quantiles=tuple(run.spec.quantiles),
        targets=len(run.layout.targets),
        batch_size=batch_size,
        accumulate=accumulate,
        windows_per_epoch=windows,
        learning_rate=LearningRate(rate, "constant", 0.0, 100),
        optimizer="adam",
        weight_decay=0.0,
        fused=True,
    )


@pytest.mark.parametrize("columns", [("cpu_percent",), ("cpu_percent", "memory_percent")])
def test_the_network_is_the_stock_one_number_for_number(
    prepare_small: PrepareSmall, columns: tuple[str, ...]
) -> None:
    run = prepare_small(columns)
    x, _ = first_batch(run)
    run.model.eval()

    theirs = stock_twin(run)(x)["prediction"]
    ours = run.model(x)["prediction"]

    for one, other in zip(
        ours if isinstance(ours, list) else [ours],
        theirs if isinstance(theirs, list) else [theirs],
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_validation_loss_is_what_stock_would_report(prepare_small: PrepareSmall) -> None:
    run = prepare_small()
    twin, expected, windows = stock_twin(run), 0.0, 0
    run.model.on_validation_epoch_start()
    run.model.eval()
    for x, y in run.validation_batches:
        run.model.validation_step((x, y), 0)
        size = len(x["groups"])
        expected += twin.loss(twin(x)["prediction"], y).item() * size
        windows += size

    assert sum(run.model.validation.per_target()) == pytest.approx(expected / windows, rel=1e-5)


def test_the_training_loss_is_taken_in_scaled_space(prepare_small: PrepareSmall) -> None:
    run = prepare_small(dropout=0.0)
    x, y = first_batch(run)
    loss = run.model.training_step((x, y), 0)

    scale = [own.clone() for own in x["target_scale"]]
    loud = [own * 1000.0 for own in scale]
    for own in loud:
        own[:, 0] = 0.0
    louder_x = {**x, "target_scale": loud}
    actual = [
        (values - own[:, :1]) / own[:, 1:] * big[:, 1:]
        for values, own, big in zip(y[0], scale, loud, strict=True)
    ]

    assert run.model.training_step((louder_x, (actual, None)), 0).item() == pytest.approx(
        loss.item(), rel=1e-4
    )


class Gradients(pl.Callback):
    """Remembers the gradient of every optimizer step."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002
        self.steps.append(pl_module.flat.gradient.clone())


def test_the_last_partial_group_counts_by_its_own_size(prepare_small: PrepareSmall) -> None:
    """6 batches and a rest, four at a time, step as two large batches do; Lightning halves the second."""
    recorded = []
    for batch_size, accumulate in ((4, 4), (16, 1)):
        run, gradients = prepare_small(dropout=0.0), Gradients()
        batches = WindowBatches(run.source, run.split.train, batch_size, shuffle_seed=1, at_most=26)
        run.model.prepare(plain_plan(run, batch_size, accumulate, 26, rate=0.0))
        fit(run.model, batches, accumulate, callbacks=[gradients])
        recorded.append(gradients.steps)

    assert [len(steps) for steps in recorded] == [2, 2]
    for accumulated, at_once in zip(*recorded, strict=True):
        torch.testing.assert_close(accumulated, at_once, rtol=1e-3, atol=1e-5)


class OneBatch:
    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        yield self.batch


def test_a_step_with_a_gradient_that_is_no_number_is_left_out_and_counted(
    prepare_small: PrepareSmall,
) -> None:
    run = prepare_small(dropout=0.0)
    before = torch.nn.utils.parameters_to_vector(run.model.parameters()).detach().clone()
    x, y = first_batch(run)
    y[0][0][0, 0] = float("inf")
    run.model.prepare(plain_plan(run, 16, 1, 16))

    fit(run.model, OneBatch((x, y)), 1, clip=0.1)

    after = torch.nn.utils.parameters_to_vector(run.model.parameters()).detach()
    assert torch.equal(before, after)
    assert int(run.model.tally.bad_steps) == 1


@pytest.fixture
def without_onednn() -> Iterator[None]:
    """OneDNN's LSTM knows bfloat16 only on processors that have it."""
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(True)


@pytest.mark.usefixtures("without_onednn")
def test_heads_rescaling_and_loss_stay_in_float32_under_bfloat16(prepare_small: PrepareSmall) -> None:
    run = prepare_small()
    run.model.eval()
    x, _ = first_batch(run)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantiles = run.model.quantiles(x)

    assert quantiles.dtype == torch.float32
    assert not torch.equal(quantiles, quantiles.bfloat16().float())  # not one of bfloat16's coarse steps


def test_the_attention_mask_survives_float16() -> None:
    query, mask = torch.randn(1, 2, 4).half(), torch.tensor([[[False, True], [False, False]]])
    with pytest.raises(RuntimeError, match="overflow"):
        ScaledDotProductAttention()(query, query, query, mask)

    _, attention = ScaledDotProductAttention(mask_bias=stock.MASK_BIAS)(query, query, query, mask)

    assert attention[0, 0].tolist() == [1.0, 0.0]


def test_a_fused_optimizer_is_not_used_where_lightning_could_not_clip_its_gradients(
    prepare_small: PrepareSmall,
) -> None:
    run = prepare_small()
    half = run.spec.model_copy(update={"precision": "16-mixed"})

    assert run.model.plan.fused
    assert not _step_plan(half, run.layout, run.size, 10).fused


def test_our_mask_leaves_float32_as_it_was() -> None:
    query, mask = torch.randn(8, 5, 4) * 10, torch.rand(8, 5, 5) < 0.5
    mask[..., 0] = False
    ours = ScaledDotProductAttention(mask_bias=stock.MASK_BIAS)(query, query, query, mask)
    theirs = ScaledDotProductAttention()(query, query, query, mask)

    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_unknown_category_is_trained(prepare_small: PrepareSmall) -> None:
    run = prepare_small()
    x, y = run.source.batch(torch.tensor([0, 1]), torch.tensor([10, 70]), torch.tensor([True, False]))
    torch.autograd.backward(run.model.training_step((x, y), 0))

    gradient = run.model.input_embeddings["c000"].weight.grad
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0


@pytest.mark.parametrize(("kernels", "golden"), GOLDEN_LOSSES.items())
def test_the_golden_loss_of_a_short_training(
    prepare_small: PrepareSmall, *, kernels: bool, golden: float
) -> None:
    """A change that should not alter training leaves it alone; one that should shows its evidence."""
    assert not kernels or why_no_kernels() is None
    run = prepare_small()
    run.model.kernels = kernels
    run.model.prepare(plain_plan(run, 16, 1, run.train_batches.size))

    fit(run.model, run.train_batches, 1, clip=0.1)

    assert run.model.tally.train_loss.item() / run.model.tally.batches == pytest.approx(golden, rel=1e-3)
