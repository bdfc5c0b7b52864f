from __future__ import annotations

from pathlib import Path

from worker.oom import count_oom_kills


def test_the_kills_of_our_own_group_are_counted(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/docker/abc\n")
    group = tmp_path / "hierarchy" / "docker" / "abc"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n")

    assert count_oom_kills(membership, tmp_path / "hierarchy") == 2


def test_where_the_kernel_does_not_say_none_are_counted(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("12:memory:/docker/abc\n")

    assert count_oom_kills(membership, tmp_path) == 0
    assert count_oom_kills(tmp_path / "missing", tmp_path) == 0
