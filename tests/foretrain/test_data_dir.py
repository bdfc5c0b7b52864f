from __future__ import annotations

import stat
from pathlib import Path

import pytest

from foretrain.data_dir import owned
from foretrain.refusals import Refusal


def test_a_folder_is_for_one_at_a_time(tmp_path: Path) -> None:
    with owned(tmp_path / "data"), pytest.raises(Refusal, match="already runs"), owned(tmp_path / "data"):
        pass

    with owned(tmp_path / "data"):
        pass


def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)

    with owned(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["x" * 120, "my data"])
def test_a_socket_gets_a_path_it_can_have(tmp_path: Path, name: str) -> None:
    with owned(tmp_path / name) as directory:
        path = str(directory.broker_socket)
        assert len(path) <= 100
        assert " " not in path
        assert stat.S_IMODE(directory.runtime.stat().st_mode) == 0o700

    assert not directory.runtime.exists()
