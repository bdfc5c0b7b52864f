"""Columns that lie in a file: of what is mapped, the system keeps in memory what there is room for."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK_ROWS = 1 << 20


def map_floats(values: npt.NDArray[np.floating[Any]], folder: Path) -> npt.NDArray[np.float32]:
    """A float32 copy of `values` (n,) in a file in `folder`, which is gone once nobody holds the copy.

    Raises OSError, for a full disk among others: written first and mapped then, for a write into a mapping
    that the disk has no room for ends the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for start in range(0, len(values), _BLOCK_ROWS):
            file.write(values[start : start + _BLOCK_ROWS].astype(np.float32).tobytes())
        file.flush()
        return np.memmap(file, np.float32, mode="r+", shape=values.shape)
