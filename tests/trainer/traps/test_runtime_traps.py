"""Traps of the stock trainer, the loop. Each test shows the trap, then ours on the same data."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainer.traps.stock_way import (
    IGNORED,
    QUIET,
    Batches,
    dataset,
    first_batch,
    fit,
    fleet,
    loader,
    network,
)
from trainer.schedule import LearningRate

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(warning) for warning in IGNORED)]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's own registration
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[function.name()] += 1
        return function(*args, **(kwargs or {}))


class OneWeight(pl.LightningModule):
    """Its gradient is 1 for every batch; what the optimizer sees is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []

    def training_step(self, batch: Any) -> Any:  # noqa: ARG002
        return self.weight

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def on_before_optimizer_step(self, optimizer: Any) -> None:  # noqa: ARG002
        assert self.weight.grad is not None
        self.seen.append(float(self.weight.grad))


def test_the_last_partial_group_counts_half_there_and_in_full_here(our_way: Any) -> None:
    """Six batches in groups of four."""
    theirs = OneWeight()
    fit(theirs, Batches(*torch.ones(6, 1)), accumulate_grad_batches=4)

    run = our_way(fleet(), batch_size=4, accumulate_grad_batches=4, max_train_windows=24)
    shares = [run.model.plan.share_of_group(index, 4) / 4 for index in range(6)]

    assert theirs.seen == [1.0, 0.5]
    assert sum(shares[:4]) == pytest.approx(1.0)
    assert sum(shares[4:]) == pytest.approx(1.0)


def test_predict_writes_into_the_folder_there_and_a_whole_training_leaves_it_as_it_was_here(
    odd_run: Any, empty_working_directory: Path
) -> None:
    data = dataset(fleet())
    network(data).predict(data, trainer_kwargs={"accelerator": "cpu"})

    assert [path.name for path in empty_working_directory.iterdir()] == ["lightning_logs"]
    assert odd_run.strays == []


def test_predict_changes_its_arguments_and_then_returns_nothing_there_and_repeats_itself_here(
    our_way: Any, empty_working_directory: Path
) -> None:
    frame = fleet()
    data = dataset(frame)
    model, arguments = network(data), dict(QUIET)
    first, second = (model.predict(data, trainer_kwargs=arguments) for _ in range(2))
    with pytest.raises(IndexError):
        model.predict(data, trainer_kwargs=QUIET | {"callbacks": [pl.Callback()]})

    run = our_way(frame)
    run.model.eval()
    once, again = ([run.model.quantiles(x) for x, _ in run.validation_batches] for _ in range(2))

    assert len(first) == 60
    assert second == []
    assert set(arguments) != set(QUIET)
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
    assert list(empty_working_directory.iterdir()) == []


def test_figures_and_tensors_pile_up_there_and_nothing_is_kept_here(our_way: Any, tmp_path: Path) -> None:
    """With `log_interval`, as the tutorial sets it; validation of four batches."""
    frame = fleet()
    data = dataset(frame)
    model, logger = network(data, log_interval=1), TensorBoardLogger(str(tmp_path))
    figures: list[str] = []
    logger.experiment.add_figure = lambda tag, *_, **__: figures.append(tag)
    kept: list[int] = []

    class Watch(pl.Callback):
        def on_validation_batch_end(self, _: Any, module: Any, *__: Any) -> None:
            outputs = module.validation_step_outputs
            kept.append(sum(part.numel() for one in outputs for part in one["interpretation"].values()))

    trainer = pl.Trainer(**(QUIET | {"logger": logger}), callbacks=[Watch()])
    trainer.validate(model, data.to_dataloader(train=False, batch_size=16), verbose=False)

    run = our_way(frame)
    pl.Trainer(**QUIET, max_epochs=1).fit(run.model, run.train_batches, run.validation_batches)

    assert len(figures) >= 4
    assert len(kept) == 4
    assert kept == sorted(kept)
    assert kept[-1] == 4 * kept[0]
    assert run.model.hparams.log_interval == -1
    assert run.model.validation_step_outputs == run.model.training_step_outputs == []


def test_an_entry_a_step_is_kept_there_and_none_here(our_way: Any) -> None:
    frame = fleet()
    data = dataset(frame)

    class Watch(pl.Callback):
        def __init__(self) -> None:
            self.entries: list[int] = []

        def on_train_batch_end(self, _: Any, module: Any, *__: Any) -> None:
            self.entries.append(len(module.training_step_outputs))

    theirs, ours = Watch(), Watch()
    fit(network(data), loader(data), callbacks=[theirs])
    run = our_way(frame)
    fit(run.model, run.train_batches, callbacks=[ours])

    assert theirs.entries == [1, 2, 3]
    assert set(ours.entries) == {0}


def test_adam_goes_parameter_by_parameter_there_and_is_fused_here(our_way: Any) -> None:
    frame = fleet()
    data = dataset(frame)
    model = network(data)
    model.trainer = pl.Trainer(**QUIET)
    theirs = model.configure_optimizers()["optimizer"]
    run = our_way(frame)
    ours = run.model.configure_optimizers()
    steps = []
    for module, optimizer in ((model, theirs), (run.model, ours)):
        for weight in module.parameters():
            weight.grad = torch.ones_like(weight)
        with Operations() as operations:
            optimizer.step()
        steps.append(sum(operations.counts.values()) / len(list(module.parameters())))

    assert theirs.param_groups[0]["fused"] is None
    assert ours.param_groups[0]["fused"] is True
    assert steps[0] > 5
    assert steps[1] < 0.3 * steps[0]


def test_the_rate_stands_still_for_a_thousand_epochs_there_and_falls_here(odd_run: Any) -> None:
    data = dataset(fleet())
    model = network(data)
    rates: set[float] = set()

    class NeverBetter(pl.Callback):
        def on_validation_epoch_end(self, trainer: Any, _: Any) -> None:
            trainer.callback_metrics["val_loss"] = torch.tensor(1.0)
            rates.add(trainer.optimizers[0].param_groups[0]["lr"])

    batches = Batches(first_batch(data, 4))
    trainer = pl.Trainer(**QUIET, max_epochs=30, callbacks=[NeverBetter()], num_sanity_val_steps=0)
    trainer.fit(model, batches, batches)

    plateau = LearningRate(0.01, "plateau", 0.0, 100)
    ours = []
    for epoch in range(30):
        plateau.heed(1.0)
        ours.append(plateau.at(epoch))
    run = [
        event.values["learning_rate"]
        for event in odd_run.observer.of_type("metrics")
        if "learning_rate" in event.values
    ]

    assert model.hparams.reduce_on_plateau_patience == 1000
    assert rates == {0.01}
    assert ours[-1] < 0.1 * ours[0]
    assert max(run) == pytest.approx(0.003)  # OneCycle, the default
    assert run[-1] < 0.01 * max(run)


@pytest.mark.parametrize("heads", [3, 16])
def test_heads_that_do_not_divide_are_cut_down_there_and_refused_here(make_spec: Any, heads: int) -> None:
    attention = network(dataset(fleet()), attention_head_size=heads).multihead_attn

    assert attention.d_k * heads < 8  # of hidden_size 8
    with pytest.raises(ValidationError, match="must divide hidden_size"):
        make_spec(hidden_size=8, attention_head_size=heads)


def test_a_grown_fleet_is_an_index_error_there_and_unknown_here(our_way: Any) -> None:
    """Training goes on, or forecasts are made, with two servers more."""
    grown = fleet(servers=4)
    data = dataset(fleet(), static_categoricals=["server"])
    model = network(data)
    with pytest.raises(IndexError, match="index out of range"):
        model(first_batch(dataset(grown, static_categoricals=["server"]), 200)[0])

    run, more = our_way(fleet()), our_way(grown)
    source = type(run.source)(
        more.series,
        run.layout,
        run.scaling,
        encoder_length=run.spec.encoder_length,
        horizon=run.spec.horizon,
        device=torch.device("cpu"),
        history_end=np.asarray(more.series.offsets[1:]),
    )
    x, _ = source.batch(torch.arange(4), torch.as_tensor(more.series.offsets[:-1]) + 10)

    assert x["encoder_cat"][:, 0, 0].tolist() == [1, 2, 0, 0]
    assert run.model.eval().quantiles(x).isfinite().all()


def test_windows_are_cut_in_python_there_and_all_at_once_here(our_way: Any) -> None:
    """Why loader workers are advised there, each with a copy of the data, and none is needed here."""
    frame = fleet(servers=8, steps=120)
    data = dataset(frame, target_normalizer="auto")
    run = our_way(frame, batch_size=64)

    def seconds(batches: Any) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            windows = sum(len(x["groups"]) for x, _ in batches)
            best = min(best, (time.process_time() - began) / windows)
        return best

    theirs, ours = seconds(loader(data, 64)), seconds(run.train_batches)

    assert ours < theirs / 3
    assert multiprocessing.active_children() == []
    assert not isinstance(run.train_batches, torch.utils.data.DataLoader)


def test_a_step_reads_the_device_there_and_never_here(our_way: Any) -> None:
    """Each read of a number stops a GPU until all before it is done, and breaks a compiled graph."""
    frame = fleet()
    data = dataset(frame)
    model = network(data)
    x, y = first_batch(data)
    with Operations() as forward:
        forecast = model(x)["prediction"]
    with Operations() as loss:
        model.loss(forecast, y)

    run = our_way(frame)
    batch = next(iter(run.train_batches))
    with Operations() as step:
        run.model.training_step(batch, 0)
        run.model.configure_gradient_clipping(run.model.configure_optimizers(), 0.1)
    read = "aten::_local_scalar_dense"

    assert forward.counts[read] >= 5
    assert loss.counts[read] >= 3
    assert step.counts[read] == 0


def test_inputs_are_interpolated_step_by_step_there_and_multiplied_by_a_matrix_here(our_way: Any) -> None:
    """On a GPU the interpolation is slow, and its backward has no deterministic form."""
    frame = fleet()
    data = dataset(frame)
    with Operations() as theirs:
        network(data)(first_batch(data)[0])["prediction"].sum().backward()

    run = our_way(frame, static_categoricals=[])
    with Operations() as ours:
        torch.autograd.backward(run.model.training_step(next(iter(run.train_batches)), 0))
    backward = "aten::upsample_linear1d_backward"

    assert theirs.counts[backward] > 0
    assert ours.counts[backward] == 0


def test_the_tuner_that_patches_scipy_is_never_loaded_here(odd_run: Any) -> None:
    assert odd_run.result is not None
    assert "pytorch_forecasting.models.temporal_fusion_transformer.tuning" not in sys.modules
