"""The baseline is what we compare with: it may not change unnoticed, nor lean on anything of ours."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import baseline
from benchmarks.baseline import QUANTILES, Cut, train_baseline, with_clock
from tests.benchmarks.fleets import small_fleet
from trainer.evaluation.scores import pinball

FILE = Path(baseline.__file__)
LOCKED_SHA256 = "3ce7a4cfd60952108e904900c25657d26231ffdbcfbb70d434e973b22f12722c"


def test_the_baseline_is_the_one_the_published_figures_were_measured_against() -> None:
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == LOCKED_SHA256, (
        "benchmarks/baseline.py has changed: measure RESULTS.md again, then lock the new hash here"
    )


def test_the_baseline_imports_nothing_of_ours() -> None:
    ours = {"api", "core", "worker", "trainer", "foretrain", "benchmarks", "migrations"}
    roots = set()
    for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            roots |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").split(".")[0])

    assert roots & {"pytorch_forecasting", "lightning"} == {"pytorch_forecasting", "lightning"}
    assert not roots & ours


@pytest.mark.filterwarnings("ignore")
def test_each_server_is_scaled_by_itself() -> None:
    """With `NaNLabelEncoder(add_nan=True)` for the server pytorch-forecasting takes the neighbour's scale."""
    fleet = small_fleet(servers=3, seen=3)
    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)

    training, validation = baseline._datasets(fleet.frame("seen"), list(fleet.targets), cut)

    for windows in (training, validation):
        index = windows.decoded_index
        for number, server in enumerate(fleet.servers):
            x, _ = windows[int(index.index[index["server"] == server][0])]
            for place, (center, scale) in enumerate(np.asarray(x["target_scale"])):
                seen = fleet.table[number, : fleet.train_end, place]
                assert center == pytest.approx(seen.mean(), rel=1e-4)
                assert scale == pytest.approx(seen.std(ddof=1), rel=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_best_and_last_checkpoints_give_the_losses_that_were_reported(tmp_path: Path) -> None:
    fleet = small_fleet(servers=3, seen=3)
    frame = fleet.frame("seen")
    cut = Cut(fleet.train_end, fleet.validation_end, fleet.encoder_length, fleet.horizon)

    run = train_baseline(frame, list(fleet.targets), cut, tmp_path, epochs=3, seed=1, threads=1, workers=0)

    assert len(run.val_losses) == len(run.epoch_ends) == 3
    assert run.train_windows == fleet.train_windows
    known = with_clock(frame[frame["time_idx"] < fleet.validation_end])
    losses = {}
    for name, checkpoint in (("best", run.best), ("last", run.last)):
        index, quantiles = run.forecast(checkpoint, known, first_step=fleet.train_end)
        assert quantiles.shape == (3 * len(fleet.origins("validation")), 3, 2, 7)
        place = index["server"].map(fleet.servers.index).to_numpy()
        actual = fleet.actual("seen", "validation")[place, index["time_idx"] - fleet.train_end]
        losses[name] = sum(
            2 * pinball(actual, quantiles[..., k], q).mean() * 2 / 7 for k, q in enumerate(QUANTILES)
        )
    assert losses["best"] == pytest.approx(min(run.val_losses), rel=1e-4)
    assert losses["last"] == pytest.approx(run.val_losses[-1], rel=1e-4)
    assert np.isfinite(run.seconds)
    assert run.peak_bytes > 0
