from __future__ import annotations

from pathlib import Path

import pytest

from worker.memory import count_oom_kills, memory_total, trainer_memory_limit

MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30


class Kernel:
    """The files in which the kernel tells of control groups."""

    def __init__(self, folder: Path) -> None:
        self.membership = folder / "cgroup"
        self.hierarchy = folder / "hierarchy"

    def say(self, path: str, text: str) -> None:
        file = self.hierarchy / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def total(self) -> int | None:
        return memory_total(self.membership, self.hierarchy)

    def kills(self) -> int:
        return count_oom_kills(self.membership, self.hierarchy)


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_the_least_limit_of_nested_groups_counts(kernel: Kernel) -> None:
    kernel.membership.write_text("0::/pods/abc\n")
    kernel.say("pods/abc/memory.max", "max\n")
    kernel.say("pods/memory.max", f"{50 * MEBIBYTE}\n")
    kernel.say("memory.max", f"{70 * MEBIBYTE}\n")

    assert kernel.total() == 50 * MEBIBYTE


def test_the_older_kind_of_group_is_heard_where_its_path_is_out_of_sight(kernel: Kernel) -> None:
    kernel.membership.write_text("4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n")
    kernel.say("memory/memory.limit_in_bytes", f"{60 * MEBIBYTE}\n")

    assert kernel.total() == 60 * MEBIBYTE


@pytest.mark.parametrize("said", ["max", str(2**63 - 4096)])
def test_without_a_limit_the_machine_is_the_limit(kernel: Kernel, said: str) -> None:
    kernel.membership.write_text("4:memory:/\n0::/\n")
    kernel.say("memory.max", said)
    kernel.say("memory/memory.limit_in_bytes", said if said.isdigit() else str(2**62))

    total = kernel.total()

    assert total is not None
    assert GIBIBYTE // 4 < total < 2**50


def test_a_share_is_left_for_the_worker() -> None:
    assert trainer_memory_limit(4 * GIBIBYTE) == 4 * GIBIBYTE - 4 * GIBIBYTE // 10
    assert trainer_memory_limit(1 * GIBIBYTE) == 768 * MEBIBYTE
    assert trainer_memory_limit(64 * GIBIBYTE) == 63 * GIBIBYTE


@pytest.mark.parametrize("total", [None, 300 * MEBIBYTE])
def test_no_limit_is_set_where_it_would_leave_next_to_nothing(total: int | None) -> None:
    assert trainer_memory_limit(total) is None


@pytest.mark.parametrize(
    ("membership", "path", "said"),
    [
        (
            "0::/docker/abc\n",
            "docker/abc/memory.events",
            "low 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n",
        ),
        (
            "4:memory:/abc\n0::/\n",
            "memory/abc/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
    ],
)
def test_the_kills_of_our_own_group_are_counted(
    kernel: Kernel, membership: str, path: str, said: str
) -> None:
    kernel.membership.write_text(membership)
    kernel.say(path, said)

    assert kernel.kills() == 2


@pytest.mark.parametrize("membership", ["12:memory:/docker/abc\n", "0::/\n", ""])
def test_where_the_kernel_does_not_say_none_are_counted(kernel: Kernel, membership: str) -> None:
    kernel.membership.write_text(membership)

    assert kernel.kills() == 0
