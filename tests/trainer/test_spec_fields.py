"""Every field that the spec accepts changes the run: none is there for show."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from trainer.spec import NOT_BUILT_YET, TrainingSpec

if TYPE_CHECKING:
    from collections.abc import Callable

# These differ between equal runs.
MEASURED = {"windows_per_second", "memory_bytes"}
# Another value for each field, with what else it takes to show.
CHANGES: dict[str, dict[str, Any]] = {
    "preset": {"preset": "development"},
    "multi_target": {"multi_target": True, "target_metrics": None},
    "target_metrics": {"target_metrics": ["memory_percent"]},
    "missing_targets": {"missing_targets": "drop", "target_metrics": ["cpu_percent", "absent"]},
    "encoder_length": {"encoder_length": 7},
    "horizon": {"horizon": 4},
    "known_covariates": {"known_covariates": ["minute_of_hour"]},
    "observed_covariates": {"observed_covariates": ["memory_percent"]},
    "static_categoricals": {"static_categoricals": []},
    "quantiles": {"quantiles": [0.2, 0.5, 0.8]},
    "missing_policy": {"missing_policy": "mask"},
    "normalizer": {"normalizer": "series_standard"},
    "calibration": {"calibration": "none"},
    "hidden_size": {"hidden_size": 10},
    "hidden_continuous_size": {"hidden_continuous_size": 5},
    "attention_head_size": {"attention_head_size": 1},
    "lstm_layers": {"lstm_layers": 2},
    "dropout": {"dropout": 0.3},
    "epochs": {"epochs": 3},
    "max_steps": {"max_steps": 1},
    "max_minutes": {"max_minutes": 1e-6},
    "batch_size": {"batch_size": 17},
    "accumulate_grad_batches": {"accumulate_grad_batches": 2},
    "learning_rate": {"learning_rate": 0.02},
    "auto_lr_find": {"auto_lr_find": True},
    "lr_schedule": {"lr_schedule": "cosine"},
    "warmup_fraction": {"warmup_fraction": 0.5},
    "lr_monitor_interval": {"lr_monitor_interval": "epoch"},
    "optimizer": {"optimizer": "adamw", "weight_decay": 0.1},
    "weight_decay": {"weight_decay": 0.1},
    "gradient_clip_val": {"gradient_clip_val": 0.001},
    "precision": {"precision": "bf16-mixed"},
    "accelerator": {"accelerator": "cpu"},
    "validation_split": {"validation_split": 0.3},
    "test_split": {"test_split": 0.2},
    "early_stopping_patience": {"early_stopping_patience": 1, "learning_rate": 1.0, "epochs": 9},
    "random_seed": {"random_seed": 1},
    "log_every_n_steps": {"log_every_n_steps": 1},
    "window_stride": {"window_stride": 2},
    "max_train_windows": {"max_train_windows": 30},
}
# What a field needs to be seen beside, where the plain run does not show it.
BESIDE: dict[str, dict[str, Any]] = {
    "missing_targets": {"target_metrics": ["cpu_percent"]},
    "optimizer": {"weight_decay": 0.1},
    "early_stopping_patience": {"early_stopping_patience": 0, "learning_rate": 1.0, "epochs": 9},
}
# Shown by tests of their own: a refusal instead of a fallback, how torch is told to compute, what follows a
# failure, and how many processes compute the same.
ELSEWHERE = {"precision_strict", "deterministic", "on_out_of_memory", "on_divergence", "devices"}


def test_every_accepted_field_is_tried_here_or_elsewhere() -> None:
    assert set(TrainingSpec.model_fields) == set(CHANGES) | ELSEWHERE | set(NOT_BUILT_YET)


@pytest.fixture(scope="module")
def trace(run_training: Any, make_series: Any) -> Callable[..., str]:
    """A digest of all that a run decided and computed, but for time and the spec it was asked with."""
    known: dict[str, str] = {}

    def digest(**changes: Any) -> str:
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            series = make_series([80, 70], ("cpu_percent", "memory_percent"))
            series.observed["cpu_percent"][20:22] = False
            known[key] = _digest(run_training(series, **({"epochs": 2} | changes)))
        return known[key]

    return digest


def _digest(trained: Any) -> str:
    result = {
        name: value
        for name, value in trained.result.result.items()
        if name not in {"duration_seconds", "resolved_spec", "adjustments", "spec_sha256"}
    }
    *_, resolved = trained.observer.of_type("resolved")
    adjustments = [(a.field, a.effective) for a in resolved.adjustments if a.field != "known_covariates"]
    metrics = [
        (e.step, {name: value for name, value in e.values.items() if name not in MEASURED})
        for e in trained.observer.of_type("metrics")
    ]
    weights = (trained.out_dir / "model.safetensors").read_bytes()
    facts = json.dumps([result, adjustments, metrics], sort_keys=True).encode()
    return hashlib.sha256(facts + weights).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("field", CHANGES)
def test_a_field_changes_the_run(trace: Callable[..., str], field: str) -> None:
    assert trace(**CHANGES[field]) != trace(**BESIDE.get(field, {}))


@pytest.mark.slow
def test_two_runs_of_one_spec_leave_the_same_trace(run_training: Any, make_series: Any) -> None:
    digests = {_digest(run_training(make_series([60]))) for _ in range(2)}

    assert len(digests) == 1
