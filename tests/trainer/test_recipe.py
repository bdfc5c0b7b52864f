from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from trainer.errors import Diverged, InvalidDataset, UnsupportedHardware
from trainer.model import ForecastModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.dataset.series import SeriesData

    MakeSeries = Callable[..., SeriesData]

pytestmark = pytest.mark.slow


def kinds(trained: Any) -> list[str]:
    return [event.type for event in trained.observer.events]


def phases(trained: Any) -> list[str]:
    return [event.phase for event in trained.observer.of_type("phase")]


def adjustments(trained: Any) -> dict[str, Any]:
    (resolved,) = trained.observer.of_type("resolved")
    return {adjustment.field: adjustment for adjustment in resolved.adjustments}


def weights(trained: Any) -> dict[str, torch.Tensor]:
    return load_file(trained.out_dir / "model.safetensors")


def test_the_events_come_in_the_order_of_the_contract(two_targets: Any) -> None:
    seen = kinds(two_targets)

    assert phases(two_targets) == ["preparing", "training", "validating", "saving"]
    assert seen[0] == "phase"
    assert seen.index("resolved") == 1
    assert seen[-1] == "finished"
    assert seen.index("checkpoint") < seen.index("artifact")
    assert [event.name for event in two_targets.observer.of_type("checkpoint")[:2]] == [
        "model.ckpt",
        "last.ckpt",
    ]


def test_the_resolved_spec_names_what_will_really_run(two_targets: Any) -> None:
    (resolved,) = two_targets.observer.of_type("resolved")

    assert resolved.resolved_spec["multi_target"] is True
    assert resolved.resolved_spec["accelerator"] == "cpu"
    assert resolved.resolved_spec["effective_batch_size"] == 16 * 4
    assert resolved.resolved_spec["log_every_n_steps"] == resolved.total_steps // 2
    assert resolved.windows["train"] == sum(
        length - round(length * 0.2) - round(length * 0.1) - 8 for length in (90, 80, 70)
    )
    assert resolved.parameters == sum(p.numel() for p in weights(two_targets).values()) - duplicated(
        two_targets
    )


def duplicated(trained: Any) -> int:
    """Elements that stand twice in the file, for modules that pytorch-forecasting shares."""
    shared = ("post_lstm_gate_decoder", "post_lstm_add_norm_decoder", "variable_selection.prescalers")
    return sum(w.numel() for name, w in weights(trained).items() if any(part in name for part in shared))


def test_series_left_out_are_named_in_a_warning(two_targets: Any) -> None:
    warnings = {event.code: event.message for event in two_targets.observer.of_type("warning")}

    assert warnings["too_short"] == "1 of 4 series are too short and left out: server-03 (12 steps)"


def test_metrics_progress_and_per_target_losses_are_reported(two_targets: Any) -> None:
    names = {name for event in two_targets.observer.of_type("metrics") for name in event.values}
    progress = two_targets.observer.of_type("progress")

    assert names == {
        "train_loss",
        "grad_norm",
        "windows_per_second",
        "memory_bytes",
        "learning_rate",
        "val_loss",
        "val_loss/cpu",
        "val_loss/net.in",
    }
    assert progress[0].fraction == 0.0
    assert progress[-1].fraction == 1.0
    assert (progress[-1].epoch, progress[-1].epochs) == (2, 2)
    assert progress[-1].windows_per_second > 0


def test_memory_is_the_process_s_own(two_targets: Any) -> None:
    seen = [
        event.values["memory_bytes"]
        for event in two_targets.observer.of_type("metrics")
        if "memory_bytes" in event.values
    ]

    assert seen
    # Torch alone takes more than 100 MB; no more than this process has ever held.
    assert all(1e8 < one <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 for one in seen)


def test_val_loss_is_the_sum_over_targets(two_targets: Any) -> None:
    for event in two_targets.observer.of_type("metrics"):
        if "val_loss" in event.values:
            parts = event.values["val_loss/cpu"] + event.values["val_loss/net.in"]
            assert event.values["val_loss"] == pytest.approx(parts)


def test_the_same_spec_data_and_machine_give_the_same_weights_bit_for_bit(
    run_training: Any, make_series: MakeSeries
) -> None:
    first, second = (weights(run_training(make_series([80, 70]), epochs=2)) for _ in range(2))
    other = weights(run_training(make_series([80, 70]), epochs=2, random_seed=1))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def empty_working_directory(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    (tmp_path / "work").mkdir()
    os.chdir(tmp_path / "work")
    yield tmp_path / "work"
    os.chdir(before)


def test_nothing_is_left_in_the_working_directory(
    run_training: Any, make_series: MakeSeries, empty_working_directory: Path
) -> None:
    run_training(make_series([80]), report=True)

    assert list(empty_working_directory.iterdir()) == []


@pytest.mark.parametrize("wish", ["cancel", "pause", "drain"])
def test_a_wish_ends_training_at_the_end_of_a_step_with_its_weights_saved(
    run_training: Any, make_series: MakeSeries, make_observer: Any, wish: Any
) -> None:
    watcher = make_observer(wish=wish, at_step=2)
    trained = run_training(make_series([80, 70]), observer=watcher, epochs=3, log_every_n_steps=1)

    (stopped,) = watcher.of_type("stopped")
    assert (stopped.wish, trained.result.wish) == (wish, wish)
    assert trained.result.result is None
    assert torch.load(trained.out_dir / "last.ckpt", weights_only=False)["global_step"] == stopped.step
    assert watcher.events[-2].type == "checkpoint"
    assert "finished" not in kinds(trained)


def test_a_wish_before_the_first_step_stops_before_it(
    run_training: Any, make_series: MakeSeries, make_observer: Any
) -> None:
    trained = run_training(make_series([80]), observer=make_observer(wish="cancel", at_step=-1))

    assert trained.observer.of_type("stopped")[0].step == 0
    assert "metrics" not in kinds(trained)


@pytest.mark.parametrize("changes", [{"max_minutes": 1e-6}, {"wish": "time_limit"}])
def test_when_time_is_up_the_best_weights_are_still_evaluated(
    run_training: Any, make_series: MakeSeries, make_observer: Any, changes: dict[str, Any]
) -> None:
    watcher = make_observer(wish=changes.pop("wish", None), at_step=1)
    trained = run_training(make_series([80, 70]), observer=watcher, epochs=50, log_every_n_steps=1, **changes)

    assert trained.result.stop_reason == "time_limit"
    assert trained.result.step < 10
    assert trained.result.result["scores"]["targets"]["cpu_percent"]["model"]["q_risk"] > 0


def test_max_steps_ends_training_and_its_last_weights_are_measured(
    run_training: Any, make_series: MakeSeries
) -> None:
    trained = run_training(make_series([80, 70]), epochs=50, max_steps=3)

    assert trained.result.stop_reason == "max_steps"
    assert trained.result.step == 3
    assert trained.result.result["best"]["step"] == 3


def test_training_stops_early_and_keeps_the_best_weights(run_training: Any, make_series: MakeSeries) -> None:
    trained = run_training(
        make_series([80]), epochs=40, early_stopping_patience=2, learning_rate=1.0, lr_schedule="constant"
    )

    losses = [e.values["val_loss"] for e in trained.observer.of_type("metrics") if "val_loss" in e.values]
    assert trained.result.stop_reason == "early_stopped"
    assert trained.result.result["best"]["val_loss"] == min(losses)
    assert len(losses) == losses.index(min(losses)) + 3
    best = torch.load(trained.out_dir / "model.ckpt", weights_only=False)["state_dict"]
    assert all(torch.equal(best[name], weight) for name, weight in weights(trained).items())


def test_what_does_not_fit_the_data_is_lowered_and_reported(
    run_training: Any, make_series: MakeSeries
) -> None:
    trained = run_training(make_series([40]), batch_size=512, accumulate_grad_batches=8, log_every_n_steps=50)

    found = adjustments(trained)
    windows = trained.result.result["windows"]["train"]
    assert found["batch_size"].effective == windows
    assert found["accumulate_grad_batches"].effective == 1
    assert found["log_every_n_steps"].effective == 1
    assert found["batch_size"].reason == "there are no more training windows"


def test_an_epoch_takes_no_more_windows_than_allowed(run_training: Any, make_series: MakeSeries) -> None:
    trained = run_training(make_series([200]), max_train_windows=40)

    windows = trained.result.result["windows"]
    assert windows["train"] == 40 < windows["train_available"]


def test_without_a_test_tail_the_scores_come_from_validation(
    run_training: Any, make_series: MakeSeries
) -> None:
    trained = run_training(make_series([80, 70]), test_split=0.0)

    scores = trained.result.result["scores"]
    assert scores["scored_on"] == "validation"
    assert scores["targets"]["cpu_percent"]["verdict"] is None


def test_bfloat16_is_replaced_where_the_processor_lacks_it(
    run_training: Any, make_series: MakeSeries
) -> None:
    trained = run_training(make_series([80]), precision="bf16-mixed")

    assert adjustments(trained)["precision"].effective == "32-true"
    assert trained.result.result["resolved_spec"]["precision"] == "32-true"


def test_training_in_bfloat16_learns_as_float32_does(
    run_training: Any, make_series: MakeSeries, plain_cpu: Any
) -> None:
    capable = replace(plain_cpu, cpu_flags=frozenset({"avx512_bf16"}))
    torch._C._set_mkldnn_enabled(False)  # oneDNN's own bfloat16 LSTM needs the processor
    try:
        coarse = run_training(make_series([80, 70]), hardware=capable, precision="bf16-mixed", epochs=3)
    finally:
        torch._C._set_mkldnn_enabled(True)
    exact = run_training(make_series([80, 70]), epochs=3)

    assert coarse.result.result["resolved_spec"]["precision"] == "bf16-mixed"
    assert coarse.result.result["best"]["val_loss"] == pytest.approx(
        exact.result.result["best"]["val_loss"], rel=0.05
    )


def test_a_precision_asked_for_strictly_is_refused(run_training: Any, make_series: MakeSeries) -> None:
    with pytest.raises(UnsupportedHardware, match="bfloat16"):
        run_training(make_series([80]), precision="bf16-mixed", precision_strict=True)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's way through the network: it makes no number of values that the kernels cope with."""
    monkeypatch.setattr(ForecastModel, "kernels", False)


@pytest.mark.usefixtures("without_kernels")
def test_a_loss_that_is_no_number_ends_with_a_cure(run_training: Any, make_series: MakeSeries) -> None:
    series = make_series([300])
    series.values["cpu_percent"] *= 1e28

    with pytest.raises(Diverged, match="lower learning_rate"):
        run_training(series, normalizer="none", epochs=3)


def test_a_target_without_values_where_it_is_judged_is_refused(
    run_training: Any, make_series: MakeSeries
) -> None:
    series = make_series([80])
    series.observed["cpu_percent"][50:] = False
    series.observed["cpu_percent"][-1] = True

    with pytest.raises(InvalidDataset, match="'cpu_percent' has no observed value in the validation part"):
        run_training(series)


def test_flat_metrics_train_to_finite_scores(run_training: Any, make_series: MakeSeries) -> None:
    series = make_series([80, 70], ("cpu_percent", "disk_percent"))
    series.values["disk_percent"][:] = 63.0

    trained = run_training(series, target_metrics=["cpu_percent", "disk_percent"])

    disk = trained.result.result["scores"]["targets"]["disk_percent"]["model"]
    assert np.isfinite(disk["mae"])


@pytest.mark.parametrize("normalizer", ["window_standard", "series_robust", "series_standard", "none"])
def test_every_normalizer_trains(run_training: Any, make_series: MakeSeries, normalizer: str) -> None:
    trained = run_training(make_series([80, 70]), normalizer=normalizer)

    assert trained.result.result["resolved_spec"]["normalizer"] == normalizer
    assert np.isfinite(trained.result.result["best"]["val_loss"])


def test_a_single_series_without_a_name_trains(run_training: Any, make_series: MakeSeries) -> None:
    series = replace(make_series([120]), series_names=["all"])

    trained = run_training(series, static_categoricals=None)

    assert trained.data.schema.group_columns == []
    assert trained.result.result["resolved_spec"]["static_categoricals"] == []
    assert np.isfinite(trained.result.result["best"]["val_loss"])


def test_deterministic_algorithms_are_demanded_of_torch(run_training: Any, make_series: MakeSeries) -> None:
    run_training(make_series([80]), deterministic=True)
    demanded = torch.are_deterministic_algorithms_enabled()
    run_training(make_series([80]))

    assert demanded
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_network_without_any_category_trains(run_training: Any, make_series: MakeSeries) -> None:
    trained = run_training(make_series([80, 70]), static_categoricals=[], known_covariates=[])

    assert np.isfinite(trained.result.result["best"]["val_loss"])


def test_a_rate_that_is_much_too_high_is_lowered_until_training_is_sound(
    run_training: Any, make_series: MakeSeries
) -> None:
    trained = run_training(make_series([80]), learning_rate=1e2, log_every_n_steps=1, epochs=2)

    cuts = [
        (a["requested"], a["effective"], a["reason"])
        for a in trained.result.result["adjustments"]
        if a["field"] == "learning_rate"
    ]
    assert [requested for requested, _, _ in cuts] == pytest.approx([1e2, 1e1, 1.0][: len(cuts)])
    assert len(cuts) >= 2
    assert all("training diverged" in reason for _, _, reason in cuts)
    assert trained.result.result["resolved_spec"]["learning_rate"] == pytest.approx(cuts[-1][1])
    assert trained.observer.of_type("resolved")[-1].resolved_spec["learning_rate"] == cuts[-1][1]
    assert np.isfinite(trained.result.result["best"]["val_loss"])


def test_a_rate_beyond_all_cure_ends_with_the_cure(run_training: Any, make_series: MakeSeries) -> None:
    with pytest.raises(Diverged, match=r"again after learning_rate was lowered 3 times.*lower learning_rate"):
        run_training(make_series([80]), learning_rate=1e6, log_every_n_steps=1)


@pytest.mark.usefixtures("without_kernels")
def test_steps_without_a_number_are_counted_in_the_result(run_training: Any, make_series: MakeSeries) -> None:
    series = make_series([80])
    series.values["cpu_percent"][30] = 5e29  # its square is no number any more
    trained = run_training(series, epochs=1, on_divergence="fail", normalizer="none")

    assert trained.result.result["bad_steps"] > 0
