"""Traps of the stock trainer, checkpoints. Each test shows the trap, then ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.tuner.tuning import Tuner
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from safetensors import safe_open
from safetensors.torch import load_file

from tests.trainer.traps.stock_way import IGNORED, QUIET, dataset, fit, fleet, loader, network
from trainer.dataset.schema import DatasetSchema
from trainer.layout import Layout
from trainer.model import build_model
from trainer.scaling import scaling_from_json
from trainer.spec import TrainingSpec
from trainer.stock import network_arguments

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(warning) for warning in IGNORED)]

WEIGHTS_ONLY = "Weights only load failed"


@pytest.fixture(scope="module")
def stock_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A short training the stock way, saved by Lightning: the data, the network and the file."""
    path = tmp_path_factory.mktemp("stock") / "model.ckpt"
    data = dataset(fleet())
    model = network(data)
    fit(model, loader(data)).save_checkpoint(path)
    return data, model, path


def test_resuming_and_loading_fail_there(stock_checkpoint: Any, tmp_path: Path) -> None:
    data, _, path = stock_checkpoint
    data.save(tmp_path / "data.pt")

    with pytest.raises(UnpicklingError, match=WEIGHTS_ONLY):
        torch.load(path)
    with pytest.raises(UnpicklingError, match=WEIGHTS_ONLY):
        TimeSeriesDataSet.load(tmp_path / "data.pt")
    with pytest.raises(UnpicklingError, match=WEIGHTS_ONLY):
        pl.Trainer(**QUIET, max_epochs=2).fit(network(data), loader(data), ckpt_path=path)


class Intruder:
    """Pickled, it is the call of a function: here one that leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_runs_what_is_in_it_there_and_ours_is_numbers_and_json(
    stock_checkpoint: Any, odd_run: Any, tmp_path: Path
) -> None:
    _, _, path = stock_checkpoint
    content = torch.load(path, weights_only=False)
    content["extra"] = Intruder(tmp_path / "was here")
    torch.save(content, tmp_path / "evil.ckpt")
    TemporalFusionTransformer.load_from_checkpoint(tmp_path / "evil.ckpt")

    ours = odd_run.out_dir / "model.safetensors"
    header = ours.read_bytes()[:8]
    length = int.from_bytes(header, "little")
    described = json.loads(ours.read_bytes()[8 : 8 + length])
    with safe_open(ours, "pt") as weights:
        names = set(weights.keys())

    assert (tmp_path / "was here").exists()
    assert names == set(described) - {"__metadata__"}
    assert {tensor["dtype"] for name, tensor in described.items() if name in names} <= {"F32", "I64"}


def test_the_state_to_go_on_from_is_no_pickle_either(odd_run: Any) -> None:
    """What is in it is for the tests of resuming; here it is opened with safetensors alone."""
    with safe_open(odd_run.out_dir / "resume.safetensors", "pt") as state:
        names, beside = list(state.keys()), state.metadata()

    assert len(names) > 100
    assert all(value.isprintable() for value in beside.values())
    assert any(json.loads(value) for value in beside.values() if value.startswith("{"))


def test_our_weights_and_description_rebuild_the_network_without_a_pickle(odd_run: Any) -> None:
    """Only JSON and safetensors are opened for ours; the checkpoint is what it is compared with."""
    described = json.loads((odd_run.out_dir / "model.json").read_text())
    fields = {n: value for n, value in described["resolved_spec"].items() if n in TrainingSpec.model_fields}
    spec, scaling = TrainingSpec(**fields), scaling_from_json(described["scaling"])
    layout = Layout.of(spec, DatasetSchema.model_validate(described["schema"]).numeric_columns())
    model = build_model(network_arguments(layout, scaling, spec))
    model.load_state_dict(load_file(odd_run.out_dir / "model.safetensors"), strict=True)

    checkpoint = TemporalFusionTransformer.load_from_checkpoint(odd_run.out_dir / "model.ckpt")
    weights = model.state_dict()

    assert described["inputs"] == checkpoint.hparams.x_reals == layout.reals
    assert all(torch.equal(weights[name], weight) for name, weight in checkpoint.state_dict().items())


def test_what_stands_beside_the_weights_is_sealed_with_its_data_and_spec(odd_run: Any) -> None:
    description = json.loads((odd_run.out_dir / "model.json").read_text())
    data = odd_run.out_dir.parent / "data.parquet"

    assert description["data_sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert len(description["spec_sha256"]) == 64
    assert {"schema", "scaling", "quantiles", "versions", "resolved_spec"} <= set(description)


def test_a_checkpoint_is_many_times_its_weights_there_and_hardly_more_here(
    stock_checkpoint: Any, odd_run: Any
) -> None:
    _, model, path = stock_checkpoint
    ours = odd_run.out_dir / "model.safetensors"
    own_weights = sum(weight.nbytes for weight in load_file(ours).values())
    their_weights = sum(weight.nbytes for weight in model.parameters())

    assert path.stat().st_size > 6 * their_weights
    assert ours.stat().st_size < 2.5 * own_weights


def test_the_rate_finder_fails_and_leaves_its_file_there_and_ours_leaves_nothing(
    odd_run: Any, empty_working_directory: Path
) -> None:
    data = dataset(fleet())
    trainer = pl.Trainer(**QUIET, max_epochs=2)
    with pytest.raises(UnpicklingError, match=WEIGHTS_ONLY):
        Tuner(trainer).lr_find(network(data), loader(data), num_training=5)

    assert [path.suffix for path in empty_working_directory.iterdir()] == [".ckpt"]
    assert odd_run.strays == []
