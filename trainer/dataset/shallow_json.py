"""Keeps nesting and texts that are there to exhaust a parser away from it."""

from __future__ import annotations

import re
from typing import IO

import numpy as np

from trainer.dataset.errors import problem

PIECE_BYTES = 1 << 14
_DEEPEST = 32
_LONGEST_TEXT = 1 << 14
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_OPENING, _CLOSING = b"[{", b"]}"
_STEPS = bytes.maketrans(_OPENING + _CLOSING, b"\x01\x01\xff\xff")  # as int8: deeper by 1, or by -1
_OTHERS = bytes(set(range(256)) - set(_OPENING + _CLOSING))


class ShallowJson:
    """JSON read from `file`, in pieces of PIECE_BYTES at most; what is nested deeply raises DatasetError.

    A path to each value, as ijson keeps one, costs the square of the depth.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._depth = 0
        self._open_text = b""  # a text whose end has not been read

    def read(self, size: int = PIECE_BYTES) -> bytes:
        """Raises DatasetError."""
        piece = self._file.read(min(size, PIECE_BYTES))
        bare = _TEXT.sub(b"", self._open_text + piece)
        bare, quote, rest = bare.partition(b'"')
        self._open_text = quote + rest
        if len(self._open_text) > _LONGEST_TEXT:
            raise problem("unreadable_file", f"A text in the JSON is longer than {_LONGEST_TEXT:,} bytes.")
        steps = np.frombuffer(bare.translate(_STEPS, _OTHERS), np.int8)
        if len(steps):
            depths = self._depth + np.cumsum(steps, dtype=np.int64)
            if depths.max() > _DEEPEST:
                raise problem("unreadable_file", f"The JSON is nested more than {_DEEPEST} levels deep.")
            self._depth = int(depths[-1])
        return piece
