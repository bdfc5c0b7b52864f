from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from trainer.checkpoint import write_whole

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"older")
    write_whole(tmp_path / "last.ckpt", b"newer")

    assert (tmp_path / "last.ckpt").read_bytes() == b"newer"
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_is_an_error_with_its_number_and_keeps_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"older")
    (tmp_path / "last.ckpt.part").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(tmp_path / "last.ckpt", b"newer" * 10_000)

    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "last.ckpt").read_bytes() == b"older"
    assert not (tmp_path / "last.ckpt.part").is_symlink()
