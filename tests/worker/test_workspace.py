from __future__ import annotations

from pathlib import Path

import pytest

from worker.workspace import run_directory, workspace


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with workspace(tmp_path) as folder, run_directory(folder, "job_1-a1") as directory:
        (directory / "out").mkdir()

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_folder_without_an_owner_is_removed_by_the_next_worker(tmp_path: Path) -> None:
    abandoned = tmp_path / "worker-abandoned"
    (abandoned / "job_1-a1").mkdir(parents=True)

    with workspace(tmp_path):
        assert not abandoned.exists()


@pytest.mark.slow
def test_the_folder_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    with workspace(tmp_path) as one, workspace(tmp_path) as other:
        assert one.exists()
        assert other.exists()
        assert one != other
