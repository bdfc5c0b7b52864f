"""Warnings of libraries that say nothing to whoever reads a job's log."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = (
    (UserWarning, r"Attribute '.*' is an instance of `nn\.Module`"),  # pytorch-forecasting means it
    (FutureWarning, r".*LeafSpec"),  # Lightning against torch 2.13
    (UserWarning, r"The given NumPy array is not writable"),  # pytorch-forecasting against pandas 3
)


@contextlib.contextmanager
def library_noise_off() -> Iterator[None]:
    """Silence what is known and harmless; everything else is still heard."""
    # Lightning announces devices and tips; the events say what matters.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for category, message in KNOWN:
            warnings.filterwarnings("ignore", message, category)
        yield
