"""The closed forms against real splits and real networks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.estimate import (
    MEMORY_ERROR,
    Inputs,
    estimate,
    network_parameters,
    optimizer_steps,
    outgrows_memory,
    training_memory_bytes,
    windows_of_series,
)
from trainer.hardware import Hardware
from trainer.prepare import prepare
from trainer.resolution import resolve_columns
from trainer.spec import TrainingSpec
from trainer.split import split_series

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trainer.prepare import PreparedRun


@pytest.mark.parametrize("seed", range(30))
def test_the_windows_are_those_of_the_real_split(seed: int, make_series: Any, make_spec: Any) -> None:
    random = np.random.default_rng(seed)
    spec = make_spec(
        encoder_length=int(random.integers(2, 20)),
        horizon=int(random.integers(1, 10)),
        validation_split=float(random.uniform(0.01, 0.5)),
        test_split=float(random.choice([0.0, random.uniform(0, 0.3)])),
        window_stride=int(random.integers(1, 5)),
    )
    lengths = [150, *random.integers(1, 150, 20).tolist()]
    split = split_series(
        make_series(lengths),
        encoder_length=spec.encoder_length,
        horizon=spec.horizon,
        validation_split=spec.validation_split,
        test_split=spec.test_split,
        window_stride=spec.window_stride,
    )

    counts = np.array([windows_of_series(spec, length) for length in lengths]).sum(axis=0)

    test_windows = 0 if split.test is None else split.test.total
    assert counts.tolist() == [split.train.total, split.validation.total, test_windows]


@pytest.mark.parametrize("lengths", [[80, 80, 80], [90, 70, 60], [200, 90, 30, 12], [64] * 9 + [400]])
def test_an_estimate_holds_what_a_run_comes_to(
    lengths: list[int],
    make_series: Any,
    make_spec: Any,
    make_dataset: Any,
    plain_cpu: Hardware,
    tmp_path: Path,
) -> None:
    data = make_dataset(make_series(lengths), tmp_path / "data.parquet")
    asked = make_spec(accumulate_grad_batches=3, epochs=2, max_train_windows=300, static_categoricals=None)
    run = prepare(asked, data, plain_cpu)
    resolved, _ = resolve_columns(asked, data.schema)

    guess = estimate(resolved, data.schema)
    exact = estimate(resolved, data.schema, lengths=lengths, windows_per_second=10.0)

    counts = run.window_counts
    validation = run.split.validation.total
    for name, real in (("train", counts["train"]), ("validation", validation), ("test", counts["test"])):
        span = getattr(guess, f"{name}_windows")
        assert span.low <= real <= span.high
        assert getattr(exact, f"{name}_windows") == type(span)(real, real)
    assert guess.steps.low <= run.size.total_steps <= guess.steps.high
    assert exact.steps.low == exact.steps.high == run.size.total_steps
    assert exact.parameters.low <= run.model.size() <= exact.parameters.high
    assert exact.seconds is not None
    assert exact.seconds.low == pytest.approx(
        run.size.total_steps * asked.effective_batch_size / 10, abs=1, rel=0.01
    )
    assert guess.seconds is None


def test_where_all_series_are_of_one_length_the_schema_suffices(
    make_series: Any, make_spec: Any, make_dataset: Any, plain_cpu: Hardware, tmp_path: Path
) -> None:
    data = make_dataset(make_series([70, 70]), tmp_path / "data.parquet")
    spec = make_spec()

    guess = estimate(spec, data.schema)

    run = prepare(spec, data, plain_cpu)
    assert guess.parameters.low == guess.parameters.high == run.model.size()
    assert guess.train_windows.low == guess.train_windows.high == run.window_counts["train"]
    assert guess == estimate(spec, data.schema, lengths=[70, 70])


COLUMNS = ("cpu_percent", "memory_percent", "disk_percent", "load")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_metrics": list(COLUMNS)},
        {"target_metrics": ["cpu_percent"], "observed_covariates": ["load", "disk_percent"]},
        {"known_covariates": []},
        {"known_covariates": ["hour_of_day", "minute_of_hour", "load"]},
        {"known_covariates": [], "static_categoricals": [], "target_metrics": ["cpu_percent"]},
        {"static_categoricals": []},
        {"hidden_size": 8, "hidden_continuous_size": 8},
        {"hidden_size": 8, "hidden_continuous_size": 20},
        {"hidden_size": 12, "attention_head_size": 1, "lstm_layers": 3},
        {"hidden_size": 48, "hidden_continuous_size": 1, "attention_head_size": 16},
        {"quantiles": [0.5]},
        {"quantiles": [0.02, 0.1, 0.5, 0.9, 0.98], "target_metrics": list(COLUMNS[:2])},
    ],
)
def test_the_parameters_are_counted_exactly(
    changes: dict[str, Any], prepare_small: Callable[..., PreparedRun]
) -> None:
    run = prepare_small(columns=COLUMNS, **({"target_metrics": ["cpu_percent"]} | changes))
    categories = [len(run.scaling.categories[name]) for name in run.layout.statics]
    inputs = Inputs.of(run.spec, run.data.schema.numeric_columns(), categories)

    assert network_parameters(run.spec, inputs) == run.model.size()


@pytest.mark.parametrize("servers", [1, 2, 3, 40])
def test_the_embedding_grows_with_the_servers_as_the_real_one(
    servers: int, make_series: Any, make_spec: Any, make_dataset: Any, plain_cpu: Hardware, tmp_path: Path
) -> None:
    data = make_dataset(make_series([60] * servers), tmp_path / "data.parquet")
    run = prepare(make_spec(), data, plain_cpu)

    inputs = Inputs.of(run.spec, data.schema.numeric_columns(), [servers])

    assert network_parameters(run.spec, inputs) == run.model.size()


@pytest.mark.parametrize(
    ("measured_mebibytes", "changes"),
    [
        (66, {"hidden_size": 16, "hidden_continuous_size": 8}),
        (218, {"hidden_size": 16, "hidden_continuous_size": 8, "batch_size": 512}),
        (211, {"batch_size": 256}),
        (232, {"hidden_size": 64, "batch_size": 128}),
        (174, {"batch_size": 256, "target_metrics": ["cpu_percent"]}),
        (394, {"hidden_size": 128, "batch_size": 64}),
        (363, {"batch_size": 128, "encoder_length": 144}),
    ],
)
def test_the_memory_is_that_of_trainings_that_were_measured(
    measured_mebibytes: int, changes: dict[str, Any]
) -> None:
    """Peak resident memory over that after the imports: 60 servers of 288 steps, one thread, x86-64."""
    usual = {
        "target_metrics": ["cpu_percent", "memory_percent"],
        "known_covariates": ["minute_of_hour"],
        "encoder_length": 48,
        "horizon": 12,
    }
    spec = TrainingSpec.model_validate(usual | changes)

    guess = training_memory_bytes(spec, Inputs.of(spec, [], [60]), rows=60 * 288)

    assert guess / 2**20 == pytest.approx(measured_mebibytes, rel=MEMORY_ERROR)


def test_several_devices_share_the_windows_of_a_batch_and_hold_the_rest_each(make_spec: Any) -> None:
    def guess(devices: int, batch_size: int) -> int:
        spec = make_spec(devices=devices, batch_size=batch_size)
        return training_memory_bytes(spec, Inputs.of(spec, [], [60]), rows=60 * 288)

    windows = guess(1, 256) - guess(1, 64)
    assert guess(2, 256) - guess(2, 64) == pytest.approx(windows)
    assert guess(2, 64) < 2 * guess(1, 64)
    assert guess(3, 64) - guess(2, 64) == pytest.approx(guess(2, 64) - guess(1, 64))


def test_a_run_without_windows_takes_no_steps(make_spec: Any) -> None:
    assert optimizer_steps(make_spec(), 0) == 0


def test_values_are_mapped_only_where_memory_is_short_for_them() -> None:
    day_of_ten_thousand = 86_400_000
    assert outgrows_memory(day_of_ten_thousand, 2, 4 * 2**30)
    assert not outgrows_memory(day_of_ten_thousand, 2, 16 * 2**30)
    assert not outgrows_memory(day_of_ten_thousand, 2, None)


def test_the_estimate_needs_neither_torch_nor_numpy() -> None:
    script = (
        "import sys, trainer.estimate; "
        "print([name for name in ('torch', 'numpy', 'pandas', 'pyarrow') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert child.stdout.strip() == "[]"
