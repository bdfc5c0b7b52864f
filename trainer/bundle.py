"""What training leaves to forecast with: model.safetensors and model.json, no pickle. Torch-free."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.dataset.schema import DatasetMapping
from trainer.evaluation.calibration import Calibration
from trainer.layout import Layout
from trainer.scaling import Scaling, scaling_from_json
from trainer.spec import TrainingSpec

if TYPE_CHECKING:
    from pathlib import Path

MODEL_FORMAT = 1
WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


class InvalidBundle(Exception):  # a sentence for the user
    """The folder holds no model that can be opened; the message says what is wrong with it."""


@dataclass(frozen=True)
class Bundle:
    """A trained network but for its weights."""

    folder: Path
    layout: Layout
    spec: TrainingSpec  # as the run really was
    scaling: Scaling
    calibration: Calibration | None
    mapping: DatasetMapping  # of the training data
    time_column: str  # as the mapping calls it
    group_columns: list[str]
    frequency_seconds: float

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS


def read_bundle(folder: Path) -> Bundle:
    """Read what a run left in `folder`, or the two files of it that were downloaded. Raises InvalidBundle."""
    lacking = [name for name in (WEIGHTS, DESCRIPTION) if not (folder / name).is_file()]
    if lacking:
        raise InvalidBundle(
            f"{folder} is no trained model: it lacks {' and '.join(lacking)}; name the folder that training "
            f"left, or one that holds a job's artifacts {WEIGHTS} and {DESCRIPTION}"
        )
    content = _description(folder / DESCRIPTION)
    try:
        return _bundle(folder, content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidBundle(f"{folder / DESCRIPTION} is damaged: {error!r}") from error


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidBundle(f"{path} cannot be read: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != MODEL_FORMAT:
        raise InvalidBundle(
            f"{path} is of format {found}, this version of foretrain reads format {MODEL_FORMAT}"
        )
    return dict(content)


def _bundle(folder: Path, content: dict[str, Any]) -> Bundle:
    schema, parameters = content["schema"], content["calibration"]["parameters"]
    resolved = {name: value for name, value in content["resolved_spec"].items() if name in _FIELDS}
    frequency_seconds = float(schema["frequency_seconds"])
    if not (frequency_seconds > 0 and math.isfinite(frequency_seconds)):
        raise ValueError(f"frequency_seconds is {frequency_seconds}")
    return Bundle(
        folder=folder,
        layout=Layout(**{role: tuple(names) for role, names in content["layout"].items()}),
        # Only what sizes the network is held to the bounds again: what gave way on the way, such as the
        # batch, may lie outside of what can be asked for.
        spec=TrainingSpec(**{name: resolved[name] for name in _SIZES}).model_copy(update=resolved),
        scaling=scaling_from_json(content["scaling"]),
        calibration=None if parameters is None else Calibration.from_json(parameters),
        mapping=DatasetMapping.model_validate(content["mapping"]),
        time_column=schema["time_column"],
        group_columns=list(schema["group_columns"]),
        frequency_seconds=frequency_seconds,
    )


_FIELDS = frozenset(TrainingSpec.model_fields)
_SIZES = (
    "encoder_length",
    "horizon",
    "quantiles",
    "hidden_size",
    "hidden_continuous_size",
    "attention_head_size",
    "lstm_layers",
    "dropout",
    "batch_size",
)


def layout_to_json(layout: Layout) -> dict[str, list[str]]:
    """Columns by role."""
    return {role: list(names) for role, names in asdict(layout).items()}
