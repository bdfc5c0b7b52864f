from __future__ import annotations

import errno

import pytest
import torch

from trainer.errors import Diverged, NoSpace, OutOfMemory, named_failure


def allocation_error() -> RuntimeError:
    """The error torch really raises on the CPU."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        allocation_error(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    ],
)
def test_lack_of_memory_is_named_with_its_cure(error: Exception) -> None:
    failure = named_failure(error, batch_size=64)

    assert isinstance(failure, OutOfMemory)
    assert "at batch_size 64; halve batch_size and double accumulate_grad_batches" in str(failure)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(code: int) -> None:
    assert isinstance(named_failure(OSError(code, "full"), batch_size=1), NoSpace)


def test_a_failure_with_a_name_keeps_it() -> None:
    diverged = Diverged("nan")

    assert named_failure(diverged, batch_size=1) is diverged


def test_what_has_no_name_is_not_given_one() -> None:
    assert named_failure(ValueError("a bug"), batch_size=1) is None
    assert named_failure(OSError(errno.ENOENT, "gone"), batch_size=1) is None
