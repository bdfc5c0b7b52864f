"""Traps of the stock trainer, half precision. Each test shows the trap, then ours on the same data."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from pytorch_forecasting.data import EncoderNormalizer, GroupNormalizer
from pytorch_forecasting.metrics import QuantileLoss
from pytorch_forecasting.metrics.base_metrics import MultiHorizonMetric

import trainer
from tests.trainer.traps.stock_way import (
    IGNORED,
    QUIET,
    Batches,
    dataset,
    first_batch,
    fit,
    fleet,
    network,
)
from trainer.divergence import check_loss
from trainer.errors import Diverged

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(warning) for warning in IGNORED)]


@pytest.mark.usefixtures("without_onednn")
def test_the_attention_mask_overflows_float16_there_and_not_here(our_way: Any) -> None:
    frame = fleet()
    data = dataset(frame)
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(RuntimeError, match="overflow"):
        network(data)(first_batch(data)[0])

    run = our_way(frame)
    x, _ = next(iter(run.train_batches))
    with torch.autocast("cpu", dtype=torch.float16), torch.no_grad():
        quantiles = run.model.quantiles(x)

    assert quantiles.isfinite().all()


@pytest.mark.usefixtures("without_onednn")
def test_forecasts_are_rounded_to_bfloat16_there_and_float32_here(our_way: Any) -> None:
    frame = fleet(steps=90)
    data = dataset(frame, target_normalizer=GroupNormalizer(groups=["server"]))
    model = network(data).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        theirs = model(first_batch(data)[0])["prediction"]
    coarse = (theirs.float() * 8) % 1 == 0  # no value between eighths

    run = our_way(frame)
    run.model.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        ours = run.model.quantiles(next(iter(run.train_batches))[0])

    assert theirs.dtype == torch.bfloat16
    assert coarse.all()
    assert len(theirs.unique()) < 0.15 * theirs.numel()
    assert ours.dtype == torch.float32
    assert len(ours.unique()) > 0.9 * ours.numel()


def test_91_365_becomes_91_5_there_and_stays_here(our_way: Any) -> None:
    output, scale = torch.tensor([[1.0]]).bfloat16(), torch.tensor([[90.365, 1.0]])
    theirs = EncoderNormalizer()({"prediction": output, "target_scale": scale})

    ours = our_way(fleet()).model.transform_output(output[..., None], scale)

    assert theirs.item() == 91.5
    assert ours.item() == pytest.approx(91.365, abs=1e-5)


def test_a_metric_in_bytes_is_infinite_in_float16_there_and_finite_here(our_way: Any) -> None:
    output, scale = torch.tensor([[1.0]]).half(), torch.tensor([[0.0, 2e9]])
    theirs = GroupNormalizer(groups=["server"])({"prediction": output, "target_scale": scale})

    ours = our_way(fleet()).model.transform_output(output[..., None], scale)

    assert math.isinf(theirs.item())
    assert ours.item() == 2e9


@pytest.mark.usefixtures("without_onednn")
def test_half_precision_forecasts_run_on_past_their_end_there_and_all_windows_are_whole_here(
    our_way: Any,
) -> None:
    frame = fleet(1, 12)
    data = dataset(frame, min_prediction_length=1, target_normalizer=GroupNormalizer(groups=["server"]))
    model = network(data)
    masked, unmasked = (
        model.predict(data, trainer_kwargs=QUIET | {"precision": precision})
        for precision in ("32-true", "bf16-mixed")
    )

    run = our_way(fleet())

    assert torch.isnan(masked).any()
    assert not torch.isnan(unmasked).any()
    assert all((x["decoder_lengths"] == run.spec.horizon).all() for x, _ in run.train_batches)


def test_16_mixed_on_a_cpu_becomes_bfloat16_there_and_float32_with_its_reason_here(odd_run: Any) -> None:
    theirs = pl.Trainer(**QUIET, precision="16-mixed")

    (adjustment,) = (a for a in odd_run.result["adjustments"] if a["field"] == "precision")

    assert theirs.precision == "bf16-mixed"
    assert (adjustment["requested"], adjustment["effective"]) == ("16-mixed", "32-true")
    assert "float16 needs a CUDA GPU" in adjustment["reason"]
    assert odd_run.result["resolved_spec"]["precision"] == "32-true"


class Fused(pl.LightningModule):
    """One weight and a fused optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any) -> Any:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), fused=True)


@pytest.mark.usefixtures("without_onednn")
def test_a_fused_optimizer_cannot_be_clipped_in_16_mixed_there_and_ours_trains(our_way: Any) -> None:
    def half() -> MixedPrecision:
        return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))

    with pytest.raises(RuntimeError, match="does not allow for gradient clipping"):
        fit(Fused(), Batches(torch.ones(4, 1)), plugins=[half()], gradient_clip_val=0.1)

    run = our_way(fleet())
    before = run.model.output_layer.weight.detach().clone()
    run.model.prepare(replace(run.model.plan, fused=False))  # as it is for 16-mixed
    fit(run.model, run.train_batches, plugins=[half()], gradient_clip_val=0.1)

    assert run.model.output_layer.weight.isfinite().all()
    assert not torch.equal(run.model.output_layer.weight, before)
    assert int(run.model.tally.bad_steps) == 0


def test_an_infinite_loss_ends_training_with_a_riddle_there_and_is_left_out_and_counted_here(
    our_way: Any,
) -> None:
    frame = fleet()
    data = dataset(frame)
    x, (actual, weight) = first_batch(data)
    actual[0, 0] = math.inf
    with pytest.raises(RuntimeError, match="does not require grad"):
        fit(network(data), Batches((x, (actual, weight))))

    run = our_way(frame)
    batches = list(run.train_batches)
    batches[1][1][0][0, 0] = math.inf
    fit(run.model, Batches(*batches), gradient_clip_val=0.1)

    assert int(run.model.tally.bad_steps) == 1
    assert all(weight.isfinite().all() for weight in run.model.parameters())


def test_a_loss_that_stays_infinite_ends_ours_with_its_cure(our_way: Any) -> None:
    run = our_way(fleet())
    for x, (actual, weight) in list(run.train_batches) * 5:
        actual[:] = math.inf
        run.model.training_step((x, (actual, weight)), 0)
        run.model.configure_gradient_clipping(run.model.configure_optimizers())

    with pytest.raises(Diverged, match="lower learning_rate"):
        check_loss(run.model, math.inf, 10)


def test_checks_that_are_assertions_are_gone_under_python_o_there_and_none_of_ours_is_one() -> None:
    """The stock check is compiled as `python -O` compiles it."""
    source = textwrap.dedent(inspect.getsource(MultiHorizonMetric.reduce_loss))
    optimised: dict[str, Any] = {"torch": torch}
    exec(compile(source, "reduce_loss", "exec", optimize=1), optimised)  # noqa: S102
    not_a_number = torch.tensor([[math.nan]]), torch.tensor([1])
    with pytest.raises(AssertionError, match="should not be nan"):
        QuantileLoss().reduce_loss(*not_a_number)

    ours = [
        path for path in Path(next(iter(trainer.__path__))).rglob("*.py") if path.name != "stock_example.py"
    ]
    assertions = [
        f"{path.name}:{node.lineno}"
        for path in ours
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]

    assert math.isnan(optimised["reduce_loss"](QuantileLoss(), *not_a_number))
    assert len(ours) > 50
    assert assertions == []
