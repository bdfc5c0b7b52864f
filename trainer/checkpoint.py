"""Checkpoints that pytorch-forecasting's own `load_from_checkpoint` opens."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import lightning
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.model import ForecastModel


def write_checkpoint(
    path: Path,
    model: ForecastModel,
    parameters: dict[str, Any],
    outer_arguments: dict[str, Any],
    *,
    epoch: int,
    step: int,
) -> None:
    """Write a whole file, renamed into place; it replaces an older one at once.

    `parameters` are the dataset's (`stock.dataset_parameters`), `outer_arguments` those of the network that
    were kept from our constructor; `epoch` counts from 1. Weights only: a pickle is no place to resume from.
    """
    special = {name: getattr(model, name) for name in model.hparams_special} | outer_arguments
    checkpoint = {
        "epoch": epoch - 1,  # Lightning counts from 0
        "global_step": step,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {name: weight.cpu() for name, weight in model.state_dict().items()},
        "hparams_name": "kwargs",
        model.CHECKPOINT_HYPER_PARAMS_KEY: dict(model.hparams) | special,
        model.CHECKPOINT_HYPER_PARAMS_SPECIAL_KEY: special,
        "dataset_parameters": parameters,
    }
    content = io.BytesIO()
    torch.save(checkpoint, content)
    write_whole(path, content.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write beside the path and rename into place, so that nobody ever sees half a file.

    From memory, so that a full disk is an OSError and not whatever a library makes of it.
    """
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_bytes(content)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(path)
