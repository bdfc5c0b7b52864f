"""`foretrain doctor`: what it says of a machine, and that a row that is not proven is a failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from foretrain.doctor import command, environment, matrix
from foretrain.doctor.environment import Check, check_environment, check_version
from foretrain.doctor.feature import Feature, Proof
from foretrain.doctor.features import FEATURES
from foretrain.doctor.lab import Lab, NotPossibleHere, NotProven, Run, equal_weights
from foretrain.doctor.matrix import chosen_features, folder_for_runs, prove
from foretrain.doctor.phase_one import check_checkpoints, check_tensorboard
from foretrain.doctor.phase_three import check_targets
from foretrain.doctor.phase_two import check_progress, check_rate_finder
from foretrain.doctor.screen import environment_table, feature_table
from foretrain.refusals import Refusal
from tests.trainer.conftest import undrawn
from trainer.hardware import Hardware
from trainer.spec import NOT_BUILT_YET, TrainingSpec

CHEAP = ("validation-split", "multi-target", "calibration")


def shown(renderable: Any) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def doctor(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "foretrain", "doctor", *arguments],
        cwd=folder,
        env=os.environ | {"FORETRAIN_DATA_DIR": str(folder / "data")} | environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_environment_is_looked_at_piece_by_piece(tmp_path: Path) -> None:
    checks = {check.name: check for check in check_environment(tmp_path / "not" / "there" / "yet")}

    assert {"Python", "torch", "lightning", "pytorch-forecasting", "safetensors", "numpy", "pandas"} <= set(
        checks
    )
    assert {"CPU", "memory", "disk", "GPU", "32-true", "16-mixed", "bf16-mixed"} <= set(checks)
    assert checks["torch"].status == "ok"
    assert "needs ==2.13.0" in checks["torch"].found
    assert checks["32-true"].status == "ok"
    assert all(check.cure for check in checks.values() if check.status != "ok")
    table = shown(environment_table(list(checks.values())))
    assert all(name in table for name in checks)


def test_another_version_than_the_one_that_was_asked_for_is_a_problem_with_its_cure() -> None:
    check = check_version(Requirement("numpy<1"))

    assert check.status == "problem"
    assert check.cure == "pip install 'numpy<1'"
    assert check_version(Requirement("no-such-package>=1")).found == "not installed (needs >=1)"
    assert check_version(Requirement("numpy>=1")).status == "ok"


def test_a_disk_that_is_nearly_full_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, real = [], shutil.disk_usage(tmp_path)
    for gibibytes in (0.5, 3, 30):
        usage = real._replace(free=int(gibibytes * environment.GIBIBYTE))
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        found.append(next(c.status for c in check_environment(tmp_path) if c.name == "disk"))

    assert found == ["problem", "warning", "ok"]


@pytest.mark.parametrize(
    ("hardware", "becomes"),
    [
        (Hardware(None, None, frozenset(), "cpu", 2), {"16-mixed": "32-true", "bf16-mixed": "32-true"}),
        (Hardware(None, None, frozenset({"amx_bf16"}), "cpu", 2), {"16-mixed": "32-true"}),
        (Hardware((7, 5), "T4", frozenset(), "cpu", 2), {"bf16-mixed": "32-true"}),
        (Hardware((8, 0), "A100", frozenset(), "cpu", 2), {}),
    ],
)
def test_each_precision_is_told_with_what_it_becomes_on_this_hardware(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hardware: Hardware, becomes: dict[str, str]
) -> None:
    monkeypatch.setattr(environment, "detect_hardware", lambda: hardware)

    checks = {check.name: check for check in check_environment(tmp_path)}

    for name in environment.PRECISIONS:
        if name in becomes:
            assert checks[name].status == "warning"
            assert f"becomes {becomes[name]}: " in checks[name].found
        else:
            assert checks[name].status == "ok"


def test_a_problem_ends_with_exit_code_1_and_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = [Check("Python", "ok", "3"), Check("torch", "problem", "2.0", "pip install torch")]
    monkeypatch.setattr(command, "check_environment", lambda _: sick)

    assert command.run_doctor(train=False, only=[], keep=None, json_file=None) == 1

    assert "Problems: torch" in capsys.readouterr().out


@pytest.mark.slow
def test_a_service_that_does_not_answer_is_a_problem_and_its_password_stays_unsaid(tmp_path: Path) -> None:
    seen = doctor(
        tmp_path, FORETRAIN_DATABASE_URL="postgresql+psycopg://me:open-sesame@127.0.0.1:1/foretrain"
    )

    assert seen.returncode == 1, seen.stderr
    assert "database" in seen.stdout
    assert "see FORETRAIN_DATABASE_URL" in seen.stdout
    assert "open-sesame" not in seen.stdout + seen.stderr


def test_every_feature_of_the_spec_that_can_be_asked_for_has_a_row() -> None:
    asked = " ".join(f"{feature.name} {feature.asked}" for feature in FEATURES)

    for word in (
        *("auto_lr_find", "lr_monitor_interval", "validation_split", "accumulate_grad_batches"),
        *("gradient_clip_val", "early_stopping_patience", "log_every_n_steps", "missing_policy"),
        *("calibration", "random_seed", "32-true", "16-mixed", "bf16-mixed", "development", "production"),
    ):
        assert word in asked
        field = word in TrainingSpec.model_fields
        assert not (field and word in NOT_BUILT_YET)
    assert len({feature.name for feature in FEATURES}) == len(FEATURES)


def test_a_feature_that_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(Refusal, match=r"no feature flying; there are training, multi-threading"):
        chosen_features(["flying", "training"])


def test_a_folder_that_holds_something_is_not_used_for_runs(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")

    with pytest.raises(Refusal, match="not empty"), folder_for_runs(tmp_path):
        pass


def test_the_folder_of_the_runs_is_removed_unless_it_is_to_be_kept(tmp_path: Path) -> None:
    with folder_for_runs(None) as temporary, folder_for_runs(tmp_path / "kept") as kept:
        assert temporary.is_dir()

    assert not temporary.exists()
    assert kept.is_dir()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.mark.slow
def test_a_row_is_proven_and_measured(tmp_path: Path) -> None:
    seen = doctor(tmp_path, "--train", "--only=training", "--json", "found.json", COLUMNS="140")

    assert seen.returncode == 0, seen.stdout + seen.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    found = json.loads((tmp_path / "found.json").read_text())
    [row] = found["features"]["rows"]
    assert (row["feature"], row["status"]) == ("training", "ok")
    assert row["seen"] in " ".join(seen.stdout.split()) or len(row["seen"]) > 60
    assert_measured(row)
    assert {check["name"] for check in found["environment"]} >= {"torch", "GPU"}


def assert_measured(row: dict[str, Any]) -> None:
    assert row["train_seconds"] > 0
    assert row["windows_per_second"] > 0
    assert 0 < row["val_loss"] < 100
    if sys.platform == "linux":
        assert row["peak_bytes_above_imports"] > 1 << 20


@pytest.mark.slow
def test_a_row_whose_check_fails_does_not_stop_the_others_and_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def lie(_: Lab) -> Proof:
        raise NotProven("it did nothing of the kind")

    def crash(_: Lab) -> Proof:
        raise ZeroDivisionError("by nought")

    def impossible(_: Lab) -> Proof:
        raise NotPossibleHere("not on this planet")

    (training,) = (feature for feature in FEATURES if feature.name == "training")
    rows = [Feature(name, "made up", "a wish", do) for name, do in (("lie", lie), ("crash", crash))]
    rows += [Feature("away", "made up", "a wish", impossible), training]
    monkeypatch.setattr(matrix, "FEATURES", tuple(rows))

    with undrawn():
        code = command.run_doctor(train=True, only=[], keep=tmp_path / "runs", json_file=None)

    out = " ".join(capsys.readouterr().out.split())
    assert code == 1
    assert "Failed: lie, crash" in out
    assert "it did nothing of the kind" in out
    assert "ZeroDivisionError: by nought" in out
    assert "not on this planet" in out
    assert "the training loss fell from" in out
    assert (tmp_path / "runs" / "fleet.parquet").exists()


@pytest.mark.slow
def test_a_check_sees_what_is_wrong_with_a_run(lab: Lab) -> None:
    with undrawn():
        run = lab.train(target_metrics=["cpu_percent", "memory_percent"])
    for check in (check_checkpoints, check_tensorboard, check_targets, check_progress):
        assert check(run)

    (run.folder / "last.ckpt").unlink()
    with pytest.raises(NotProven, match=r"last\.ckpt is not there"):
        check_checkpoints(run)
    with pytest.raises(NotProven, match=r"points, .* others were reported"):
        check_tensorboard(_without_the_first_loss(run))
    with pytest.raises(NotProven, match="val_loss"):
        check_targets(replace(run, result=run.finished | {"best": run.finished["best"] | {"val_loss": 1.0}}))
    with pytest.raises(NotProven, match="fractions"):
        check_progress(replace(run, events=run.events[::-1]))
    with pytest.raises(NotProven, match=r"no lr_find\.json"):
        check_rate_finder(run)


@pytest.mark.slow
def test_equal_runs_have_equal_weights_and_others_not(lab: Lab) -> None:
    with undrawn():
        first, again, other = (lab.train(max_steps=2, random_seed=seed) for seed in (1, 1, 2))

    assert equal_weights(first, again) == []
    assert equal_weights(first, other) != []


@pytest.mark.slow
def test_cheap_rows_are_proven_and_the_table_holds_the_figures_of_each(tmp_path: Path) -> None:
    with undrawn():
        found = prove(chosen_features(CHEAP), tmp_path, lambda _: None, lambda _: None)

    assert tuple(row.feature.name for row in found.rows) == CHEAP
    table = shown(feature_table(found))
    for row in found.rows:
        assert row.status == "ok", row
        assert row.run is not None
        assert f"{row.run.val_loss:.4g}" in table
        assert f"{row.run.windows_per_second:,.0f}" in table
        assert row.feature.asked in table


def _without_the_first_loss(run: Run) -> Run:
    first = next(event for event in run.events if event.type == "metrics")
    return replace(run, events=[event for event in run.events if event is not first])
