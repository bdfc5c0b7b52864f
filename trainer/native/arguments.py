"""How network.c takes its arguments: its structures, field by field."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST_TARGETS = 32  # as in network.c
MOST_OUTPUTS = 128  # MOST in tile.h


class Strided(ctypes.Structure):
    """Numbers by window and step, `strided` of network.c."""

    _fields_ = (("at", ctypes.c_void_p), ("by_window", ctypes.c_int64), ("by_step", ctypes.c_int64))

    def point_at(self, matrix: Tensor) -> None:
        self.at, self.by_window, self.by_step = matrix.data_ptr(), matrix.stride(0), matrix.stride(1)


SIZES = (
    *("windows", "past", "horizon", "size", "inner", "past_variables", "ahead_variables"),
    *("past_weigh", "ahead_weigh", "heads", "width", "causal", "targets", "quantiles"),
    *("threshold", "seed", "begin", "end"),
)
# As `parameters` of network.c lays them out.
PARTS = 4 * 8 + 2 * 22 + 2 * 4 + 4 + 8 + 1 + 5 + 4 + 8 + 4 + 2 + 2 * 10


class Collapsing(ctypes.Structure):
    """`collapsing` of collapse.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("variables", "scaled", "inner", "out", "weigh")),
        *((name, ctypes.c_void_p) for name in ("scalers", "stretch", "to_shares")),
    )


class StepArguments(ctypes.Structure):
    """`network` of network.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in SIZES),
        ("levels", ctypes.c_void_p),
        ("numbers", Strided * 2),
        ("places", ctypes.c_void_p * 2),
        ("statics", ctypes.c_void_p),
        ("d_statics", ctypes.c_void_p),
        ("losses", ctypes.c_void_p),
        ("share", ctypes.c_double),
        ("actual", Strided * MOST_TARGETS),
        ("scale", Strided * MOST_TARGETS),
        ("observed", Strided * MOST_TARGETS),
        ("collapsing", Collapsing * 2),
        ("parameters", ctypes.c_int64 * PARTS),
        ("gradients", ctypes.c_int64 * PARTS),
    )
