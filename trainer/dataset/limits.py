"""How much of a file is read before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadLimits:
    """Bounds that keep a hostile or oversized file from taking the machine's memory."""

    max_rows: int = 100_000_000
    max_columns: int = 2_000
    max_cells: int = 800_000_000
    max_line_bytes: int = 8 * 2**20
    max_series_bytes: int = 64 * 2**20  # a line that holds a whole series
    max_text_bytes: int = 64 * 2**30  # after decompression
    max_grid_rows: int = 100_000_000  # rows once gaps are steps of their own


DEFAULT_LIMITS = ReadLimits()
