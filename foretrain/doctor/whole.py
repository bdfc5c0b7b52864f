"""Proofs: forecasts from what was trained, and everything at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foretrain.doctor import fleet
from foretrain.doctor.feature import Proof
from foretrain.doctor.lab import SMALL, require
from foretrain.doctor.options import check_calibration, filled_steps
from foretrain.doctor.phase_one import check_checkpoints, check_tensorboard
from foretrain.doctor.phase_three import check_targets
from foretrain.doctor.phase_two import check_rate_finder

if TYPE_CHECKING:
    from pathlib import Path

    from foretrain.doctor.lab import Lab, Run

# How far from a new server's level, in its own unit, its forecasts may lie: a few of its waves.
NEAR = 100.0


def prove_forecasts(lab: Lab) -> Proof:
    """For the servers of the training and for one whose metrics are a hundred times theirs."""
    run = lab.train(target_metrics=list(fleet.TARGETS))
    return Proof(run, check_forecasts(run, fleet.write_recent(lab.folder)))


def check_forecasts(run: Run, recent: Path) -> str:
    """Forecast from the files that training left, as `foretrain predict` does."""
    import numpy as np

    from trainer.bundle import read_bundle
    from trainer.dataset.schema import DatasetMapping
    from trainer.future import look_ahead, read_history
    from trainer.predict import forecast_future

    bundle = read_bundle(run.folder)
    future = look_ahead(read_history(bundle, recent, "parquet", DatasetMapping()), bundle)
    quantiles = forecast_future(bundle, future)
    names, known = (
        future.series.series_names,
        dict(zip(future.series.series_names, future.known, strict=True)),
    )
    expected = (fleet.SERVERS + 1, SMALL["horizon"], len(fleet.TARGETS), len(SMALL["quantiles"]))
    require(quantiles.shape == expected, f"forecasts of shape {quantiles.shape}, not {expected}")
    require(bool(np.isfinite(quantiles).all()), "forecasts that are not finite")
    require(bool((np.diff(quantiles, axis=-1) >= 0).all()), "quantiles that cross")
    new = [name for name, is_known in known.items() if not is_known]
    require(new == [fleet.NEW_SERVER], f"taken for new: {new}")
    apart = float(np.abs(quantiles[names.index(fleet.NEW_SERVER)] - fleet.NEW_LEVEL).max())
    require(apart < NEAR, f"the new server's forecasts lie {apart:.0f} from its level of {fleet.NEW_LEVEL:g}")
    return (
        f"{fleet.SERVERS} known servers and a new one at {fleet.NEW_LEVEL:g}, forecast within {apart:.0f} of "
        "its level; quantiles rise"
    )


def prove_all_together(lab: Lab) -> Proof:
    """Every feature in one run, which is stopped on its way and gone on with."""
    everything = {
        "target_metrics": list(fleet.TARGETS),
        "auto_lr_find": True,
        "lr_monitor_interval": "step",
        "validation_split": 0.25,
        "precision": "bf16-mixed",
        "batch_size": SMALL["batch_size"] // 2,
        "accumulate_grad_batches": 2,
        "gradient_clip_val": 0.5,
        "early_stopping_patience": 4,
        "log_every_n_steps": 2,
        "missing_policy": "interpolate",
        "normalizer": "window_robust",
        "calibration": "conformal",
        "epochs": 4,
    }
    stop = 10
    stopped = lab.train(
        data=lab.data_with_gaps, stop_after_step=stop, threads=lab.hardware.cores, **everything
    )
    require(stopped.result is None, "the run did not heed the wish to stop")
    run = lab.train(data=lab.data_with_gaps, resume_from=stopped, threads=lab.hardware.cores, **everything)
    require(run.of_type("metrics")[0].step > stop, "the run began again from the start")
    check_tensorboard(stopped, run)
    for check in (check_checkpoints, check_targets, check_rate_finder, check_calibration):
        check(run)
    forecast = check_forecasts(run, fleet.write_recent(lab.folder))
    require(sum(filled_steps(run)) > 0, "no gap was reported")
    resolved = run.finished["resolved_spec"]
    require(resolved["effective_batch_size"] == SMALL["batch_size"], "the effective batch is another")
    require((run.folder / "report.html").stat().st_size > 0, "the report is empty")
    return Proof(
        run,
        f"two targets, gaps, finder, accumulation, {resolved['precision']}, stopped and resumed: the checks "
        f"of those rows hold; {forecast}",
    )
