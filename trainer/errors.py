"""Everything a training run can end with that is not a result. Torch-free.

`invalid_dataset` and `unsupported_hardware` are the user's to mend and are shown in full; the rest is the
machine's.
"""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.events import FailureCode

_OUT_OF_MEMORY_SIGNS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
)
# What becomes of a failed allocation in oneDNN and in threading; either may have other causes too.
_SIGNS_UNDER_A_LIMIT = (
    "could not create a primitive",
    "could not execute a primitive",
    "could not create a memory",
    "can't start new thread",
)


class TrainerError(Exception):
    """A run that failed for a reason we can name; the message says what to do."""

    code: ClassVar[FailureCode] = "internal"


class InvalidDataset(TrainerError):
    """The data cannot be trained on as the spec asks; `problems` name series, columns and rows."""

    code = "invalid_dataset"

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class UnsupportedHardware(TrainerError):
    """The spec insists on a device or a precision this machine does not have."""

    code = "unsupported_hardware"


class Diverged(TrainerError):
    """The loss stopped being a number."""

    code = "diverged"


class OutOfMemory(TrainerError):
    """The machine's memory, or the GPU's, did not suffice."""

    code = "out_of_memory"


class CannotResume(TrainerError):
    """The state of an earlier run is damaged, or not this run's."""


class RankLost(TrainerError):
    """One of the processes of a training on several devices has ended.

    `return_code` is negative for a signal, as subprocess has it.
    """

    def __init__(self, rank: int, return_code: int) -> None:
        how = f"by signal {-return_code}" if return_code < 0 else f"with exit code {return_code}"
        super().__init__(f"the training's process {rank} ended {how}; its log has the reason, if it knew one")
        self.return_code = return_code


class NoSpace(TrainerError):
    """The disk is full."""

    code = "no_space"


def named_failure(error: BaseException, *, batch_size: int) -> TrainerError | None:
    """The failure behind an exception of the machine's, with its cure; None if we have no name for it."""
    if isinstance(error, TrainerError):
        return error
    if _is_out_of_memory(error):
        return OutOfMemory(
            f"memory did not suffice at batch_size {batch_size}; halve batch_size and double "
            "accumulate_grad_batches (the effective batch stays the same), or shorten encoder_length"
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace("the disk is full; free some space and start again")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    # torch raises its own class on CUDA and a plain RuntimeError on the CPU; this module loads no torch.
    message = str(error).lower()
    signs = _OUT_OF_MEMORY_SIGNS + (_SIGNS_UNDER_A_LIMIT if _memory_is_limited() else ())
    return isinstance(error, RuntimeError | OSError) and any(sign in message for sign in signs)


def _memory_is_limited() -> bool:
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return limit != resource.RLIM_INFINITY
