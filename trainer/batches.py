"""Epochs of batches: which windows, in which order, drawn from a seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from trainer.split import Windows
    from trainer.windows import Batch, WindowSource


class WindowBatches:
    """An epoch of batches, as Lightning's loops take it: sized, iterable again, the last one partial.

    In order, at even distances where only `at_most` are taken. With `shuffle_seed` each epoch has its own
    order, and its own choice of `at_most`; and `unknown_share` of the windows hide their categories, so that
    code 0 is trained. All of it depends on seed and epoch alone.
    """

    def __init__(
        self,
        source: WindowSource,
        windows: Windows,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        at_most: int | None = None,
        unknown_share: float = 0.0,
    ) -> None:
        self.source = source
        self.windows = windows
        self.batch_size = batch_size
        self.size = windows.total if at_most is None else min(windows.total, at_most)
        self._shuffle_seed = shuffle_seed
        self._unknown_share = unknown_share
        self._epoch = 0
        self.first_window = 0
        self.sampler, self.batch_sampler = self, None  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def begin_at(self, window: int) -> None:
        """Leave out the first windows of the coming epochs, those done before a run was interrupted."""
        self.first_window = window

    def __len__(self) -> int:
        return math.ceil((self.size - self.first_window) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        ordinals, unknown = self._draw()
        series, origins = self.windows.locate(ordinals)
        series_index = torch.from_numpy(series).to(self.source.device)
        origin_rows = torch.from_numpy(origins).to(self.source.device)
        hidden = None if unknown is None else torch.from_numpy(unknown).to(self.source.device)
        for start in range(self.first_window, self.size, self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self.source.batch(
                series_index[part], origin_rows[part], None if hidden is None else hidden[part]
            )

    def _draw(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
        """The epoch's windows in order, and which of them hide their categories."""
        if self._shuffle_seed is None:
            return spread(self.windows.total, self.size), None
        random = np.random.default_rng([self._shuffle_seed, self._epoch])
        ordinals = random.choice(self.windows.total, size=self.size, replace=False)
        if not self._unknown_share:
            return ordinals, None
        return ordinals, random.random(self.size) < self._unknown_share


def spread(total: int, at_most: int) -> npt.NDArray[np.int64]:
    """Numbers from 0 to total - 1 in order: all of them, or `at_most` at even distances."""
    if at_most >= total:
        return np.arange(total)
    return np.linspace(0, total - 1, at_most).astype(np.int64)
