"""What a follower does: the same preparation and the same steps as the leader, with nobody to tell."""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trainer.fit import fit
from trainer.keeping import StateKeeper
from trainer.lr_find.range_test import is_rate_to_be_found, with_found_rate
from trainer.memory import limit_memory
from trainer.noise import library_noise_off
from trainer.parallel.orders import IDENTITY, READY, Attempt, Task
from trainer.parallel.ranks import AgreedObserver, joined
from trainer.prepare import adapted, prepare
from trainer.recipe import DatasetFile
from trainer.state import load_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.prepare import PreparedRun


def follow(read_line: Callable[[], bytes], ready_fd: int) -> None:
    """Prepare the Task in the first line, say READY, train the Attempt in the second.

    Raises what `prepare` and `fit` raise, StopRequested included.
    """
    task = Task.model_validate_json(read_line())
    if task.memory_limit is not None:
        limit_memory(task.memory_limit)
    with tempfile.TemporaryDirectory(dir=task.folder) as folder, library_noise_off():
        run = prepare(task.spec, _dataset(task), task.hardware, Path(folder), task.ranks)
        attempt = Attempt.model_validate_json(read_line())
        torch.set_num_threads(attempt.threads)
        os.write(ready_fd, READY)
        with joined(task.ranks, attempt.meeting, run.device):
            _train_along(adapted(run, attempt.adaptation), attempt, Path(folder))


def _train_along(run: PreparedRun, attempt: Attempt, folder: Path) -> None:
    observer = AgreedObserver(None, run.ranks)
    state = None if attempt.state is None else load_state(attempt.state, IDENTITY)
    keeper = StateKeeper(None, dict, observer, math.inf, state)
    if is_rate_to_be_found(run, state):
        run = with_found_rate(run, observer)
    fit(run, folder, observer, keeper, started_at=time.monotonic())


def _dataset(task: Task) -> DatasetFile:
    return DatasetFile(task.path, task.format, task.mapping, task.data_schema)
