"""Epochs of batches: which windows, in which order, drawn from a seed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.parallel.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from torch import Tensor

    from trainer.parallel.ranks import Ranks
    from trainer.split import Windows
    from trainer.windows import Batch, WindowSource


SHARE = "share_of_batch"


class WindowBatches:
    """An epoch of batches, as Lightning's loops take it: sized, iterable again, the last one partial.

    In order, at even distances where only `at_most` are taken. With `shuffle_seed` each epoch has its own
    order, and its own choice of `at_most`; and `unknown_share` of the windows hide their categories, so that
    code 0 is trained. All of it depends on seed and epoch alone.

    Several ranks have a part of every batch each. Its x then has SHARE: of all that the batch's loss is the
    mean over, the part that is seen by this rank. Where there are fewer windows than ranks, some have one
    that counts for nothing.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.source = source
        self.windows = windows
        self.batch_size = batch_size
        self.size = windows.total if at_most is None else min(windows.total, at_most)
        self._shuffle_seed = shuffle_seed
        self._unknown_share = unknown_share
        self._ranks = ranks
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
        places = [series, origins] if unknown is None else [series, origins, unknown]
        columns = [torch.from_numpy(column).to(self.source.device) for column in places]
        cut = self.source.batch if self._ranks.count == 1 else self._own_part
        for start in range(self.first_window, self.size, self.batch_size):
            yield cut(*(column[start : start + self.batch_size] for column in columns))

    def _own_part(self, series: Tensor, origins: Tensor, unknown: Tensor | None = None) -> Batch:
        own = self._ranks.share_of(len(series))
        is_there = own.stop > own.start
        taken = own if is_there else slice(0, 1)
        x, (actual, weights) = self.source.batch(
            series[taken], origins[taken], None if unknown is None else unknown[taken]
        )
        if not is_there:
            return x | {SHARE: 0.0}, (actual, _nothing(actual))
        return x | {SHARE: self._share(origins, own)}, (actual, weights)

    def _share(self, origins: Tensor, own: slice) -> Tensor | float:
        seen = self.source.seen_steps(origins)
        if seen is None:
            return len(origins[own]) / len(origins)
        share: Tensor = seen[own].sum() / seen.sum().clamp(min=1.0)
        return share

    def _draw(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
        """The epoch's windows in order, and which of them hide their categories."""
        if self._shuffle_seed is None:
            return spread(self.windows.total, self.size), None
        random = np.random.default_rng([self._shuffle_seed, self._epoch])
        ordinals = random.choice(self.windows.total, size=self.size, replace=False)
        if not self._unknown_share:
            return ordinals, None
        return ordinals, random.random(self.size) < self._unknown_share


def _nothing(actual: Any) -> Any:
    """Weights of zero, a tensor per target where there are several."""
    if isinstance(actual, list):
        return [torch.zeros_like(part) for part in actual]
    return torch.zeros_like(actual)


def spread(total: int, at_most: int) -> npt.NDArray[np.int64]:
    """Numbers from 0 to total - 1 in order: all of them, or `at_most` at even distances."""
    if at_most >= total:
        return np.arange(total)
    return np.linspace(0, total - 1, at_most).astype(np.int64)
