"""What a finished run leaves, besides its checkpoints."""

from __future__ import annotations

import csv
import hashlib
import json
import platform
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile

import torch
from safetensors.torch import save

from trainer.bundle import DESCRIPTION, MODEL_FORMAT, WEIGHTS, layout_to_json
from trainer.checkpoint import write_whole
from trainer.dataset.repairs import data_report
from trainer.evaluation.calibration import Calibration
from trainer.events import ArtifactSaved
from trainer.example import Examples
from trainer.fit import TENSORBOARD
from trainer.forecast_file import FORECASTS, SERIES_KEPT, write_forecasts
from trainer.lr_find.range_test import LR_FIND, write_lr_find
from trainer.report.html import write_report
from trainer.report.inputs import ReportInputs
from trainer.scaling import scaling_to_json
from trainer.tensorboard_notes import add_notes

if TYPE_CHECKING:
    from trainer.evaluate import Evaluation
    from trainer.fit import FittedRun
    from trainer.hardware import Hardware
    from trainer.observer import Observer
    from trainer.prepare import PreparedRun

MEDIA_TYPES = {
    ".safetensors": "application/octet-stream",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
    ".csv": "text/csv",
    ".html": "text/html",
    ".zip": "application/zip",
}
LIBRARIES = ("torch", "lightning", "pytorch-forecasting", "numpy", "pandas", "scikit-learn", "pyarrow")


def save_artifacts(
    run: PreparedRun,
    fitted: FittedRun,
    evaluation: Evaluation,
    out_dir: Path,
    observer: Observer,
    hardware: Hardware,
    *,
    seconds: float,
) -> dict[str, Any]:
    """Write every artifact, reporting each as it is done; returns the content of result.json."""

    def saved(name: str) -> None:
        observer.report(ArtifactSaved(name=name, media_type=MEDIA_TYPES[Path(name).suffix]))

    provenance = _provenance(run, hardware)
    _write_weights(run, out_dir / WEIGHTS)
    saved(WEIGHTS)
    _write_json(out_dir / DESCRIPTION, _model_description(run, evaluation.scores, provenance))
    saved(DESCRIPTION)
    examples = Examples(run, evaluation.test or evaluation.validation, _calibration(evaluation))
    for name in examples.write(out_dir):
        saved(name)
    shutil.copyfile(Path(__file__).with_name("stock_example.py"), out_dir / "stock_example.py")
    saved("stock_example.py")
    result = _result(run, fitted, evaluation, provenance, seconds)
    _write_json(out_dir / "result.json", result)
    saved("result.json")
    write_forecasts(out_dir / FORECASTS, examples.of_many_series(SERIES_KEPT), run.spec.quantiles)
    saved(FORECASTS)
    _write_metrics(fitted, out_dir / "metrics.csv")
    saved("metrics.csv")
    if run.adaptation.lr_find is not None:
        write_lr_find(out_dir / LR_FIND, run.adaptation.lr_find)
        saved(LR_FIND)
    write_report(out_dir / "report.html", _report_inputs(run, fitted, examples, result))
    saved("report.html")
    add_notes(out_dir / TENSORBOARD, result, examples.for_report(), run.spec.quantiles)
    _zip_folder(out_dir / TENSORBOARD, out_dir / "tensorboard.zip")
    saved("tensorboard.zip")
    return result


def _write_weights(run: PreparedRun, path: Path) -> None:
    # Some modules stand twice in pytorch-forecasting's network; safetensors wants tensors to own their bytes.
    weights = {name: weight.detach().cpu().clone() for name, weight in run.model.state_dict().items()}
    write_whole(path, save(weights, metadata={"format": "pt"}))


def _model_description(
    run: PreparedRun, scores: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """All that is needed beside the weights to forecast again, without a pickle."""
    return {
        "format": MODEL_FORMAT,
        "schema": run.data.schema.model_dump(mode="json"),
        "mapping": run.data.mapping.model_dump(mode="json"),
        "layout": layout_to_json(run.layout),
        "columns": run.layout.internal | run.layout.internal_statics,
        "inputs": run.layout.reals,
        "scaling": scaling_to_json(run.scaling),
        "calibration": scores["calibration"],
        "quantiles": run.spec.quantiles,
        "spec": run.asked.model_dump(mode="json"),
        "resolved_spec": run.resolved_spec,
    } | provenance


def _calibration(evaluation: Evaluation) -> Calibration | None:
    parameters = evaluation.scores["calibration"]["parameters"]
    return None if parameters is None else Calibration.from_json(parameters)


def _provenance(run: PreparedRun, hardware: Hardware) -> dict[str, Any]:
    return {
        "data_sha256": run.data.sha256,
        "spec_sha256": hashlib.sha256(_canonical(run.spec.model_dump(mode="json"))).hexdigest(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        "hardware": hardware.describe() | {"device": run.device.type, "threads": torch.get_num_threads()},
    }


def _result(
    run: PreparedRun,
    fitted: FittedRun,
    evaluation: Evaluation,
    provenance: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    best = fitted.best
    return {
        "summary": _summary(run, fitted, evaluation.scores),
        "scores": evaluation.scores,
        "interpretation": asdict(evaluation.interpretation),
        "stop_reason": fitted.stop_reason,
        "best": {
            "val_loss": best.loss,
            "val_loss_per_target": dict(zip(run.layout.targets, best.losses, strict=True)),
            "epoch": best.epoch,
            "step": best.step,
        },
        "steps": fitted.steps,
        "epochs": fitted.epochs,
        "windows": run.window_counts,
        "scored_every": {
            "validation": evaluation.validation.stride,
            "test": None if evaluation.test is None else evaluation.test.stride,
        },
        "parameters": run.model.size(),
        "bad_steps": int(run.model.tally.bad_steps),
        "duration_seconds": seconds,
        "loss_history": _history(fitted),
        "adjustments": [adjustment.model_dump(mode="json") for adjustment in run.adjustments],
        "warnings": [warning.message for warning in run.warnings],
        "findings": [finding.model_dump(mode="json") for finding in run.findings],
        "data_report": _data_report(run),
        "resolved_spec": run.resolved_spec,
    } | provenance


def _data_report(run: PreparedRun) -> dict[str, Any] | None:
    series = run.series
    if series.repairs is None:
        return None
    return data_report(series.series_names, series.lengths, series.repairs, run.split.usable)


def _summary(run: PreparedRun, fitted: FittedRun, scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "val_loss": fitted.best.loss,
        "scored_on": scores["scored_on"],
        "targets": {name: _headline(scores["targets"][name]) for name in run.layout.targets},
    }


def _headline(target: dict[str, Any]) -> dict[str, Any]:
    """q-risk beside the rivals', and the verdict in a word."""
    verdict = target["verdict"]
    return {
        "q_risk": target["model"]["q_risk"],
        "rivals": {
            name: None if rival is None else rival["q_risk"] for name, rival in target["rivals"].items()
        },
        "verdict": None if verdict is None else verdict["verdict"],
    }


def _history(fitted: FittedRun) -> dict[str, list[list[float | None]]]:
    """Losses as [step, value], by name."""
    history: dict[str, list[list[float | None]]] = {}
    for point in fitted.log.points:
        if point.name.startswith(("train_loss", "val_loss")):
            history.setdefault(point.name, []).append([point.step, point.value])
    return history


def _report_inputs(
    run: PreparedRun,
    fitted: FittedRun,
    examples: Examples,
    result: dict[str, Any],
) -> ReportInputs:
    return ReportInputs(
        title=f"Forecast of {', '.join(run.layout.targets)}",
        result=result,
        metrics=fitted.log.points,
        quantiles=tuple(run.spec.quantiles),
        examples=examples.for_report(),
        adjustments=result["adjustments"],
        warnings=result["warnings"],
        findings=result["findings"],
        data_report=result["data_report"],
        lr_find=run.adaptation.lr_find,
    )


def _write_metrics(fitted: FittedRun, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "epoch", "name", "value"))
        writer.writerows((p.step, p.epoch, p.name, p.value) for p in fitted.log.points)


def _zip_folder(folder: Path, path: Path) -> None:
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(folder.name) / file.relative_to(folder))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
