"""The race against the peers: what counts as steady state, memory and ratio; one real turn of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from benchmarks.memory import family_bytes, proportional_bytes
from benchmarks.peer_run import Measured, SteadyState
from benchmarks.peers import OURS, Race, Speed, memory_ratio, ratio_to_fastest_peer
from benchmarks.workloads import Workload
from tests.benchmarks.fleets import SHORT_DAY_STEPS, small_fleet

if TYPE_CHECKING:
    from pathlib import Path

HELD = 64 * 2**20
HOLDER = f"""
import sys
held = bytearray(b"x" * {HELD})
print("ready", flush=True)
sys.stdin.read()
"""


def speed(windows: int, memory: int = 0) -> Speed:
    return Speed(windows, clock=2.0, processor=1.0, warm_up=0.0, memory=memory, versions={})


def test_the_ratio_is_the_median_over_the_rounds_each_against_its_own_fastest() -> None:
    rounds = [
        {OURS: speed(100), "darts": speed(50), "neuralforecast": speed(20)},
        {OURS: speed(90), "darts": speed(30), "neuralforecast": speed(90)},
        {OURS: speed(120), "darts": speed(40), "neuralforecast": speed(20)},
    ]

    assert ratio_to_fastest_peer(rounds) == 2.0
    assert rounds[0][OURS].by_clock == 50.0
    assert rounds[0][OURS].by_processor == 100.0


def test_memory_is_ours_to_the_plain_baselines() -> None:
    rounds = [
        {OURS: speed(1, memory=ours), "pytorch-forecasting": speed(1, memory=200)} for ours in (90, 100, 300)
    ]

    assert memory_ratio(rounds) == 0.5


def test_what_does_not_count_is_left_out_of_steps_and_seconds() -> None:
    stretch = SteadyState(first=10, seconds=3600.0)

    for step, counts in ((5, True), (10, True), (20, True), (30, False), (40, True)):
        stretch.passed(step, counts=counts)

    assert stretch.steps == 20
    assert stretch.warm_up > 0.0


def test_a_full_stretch_ends_the_training() -> None:
    stretch = SteadyState(first=1, seconds=0.0)

    with pytest.raises(Measured):
        stretch.passed(1)


def test_memory_is_that_of_the_children_too() -> None:
    before = family_bytes(os.getpid())

    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with_child, alone = family_bytes(os.getpid()), proportional_bytes(child.pid)
        child.communicate()

    assert alone > HELD
    assert with_child - before > 0.9 * HELD


@pytest.mark.slow
def test_our_trainer_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    fleet = small_fleet(4, 4, SHORT_DAY_STEPS)
    fleet.save(tmp_path / "fleet.npz")
    with (tmp_path / "log").open("w") as log:
        race = Race(tmp_path / "fleet.npz", fleet.sha256(), Workload(hidden=8), 1, None, log)
        found = race.run(OURS, 8, 0.2, {})

    assert found.clock >= 0.2
    assert found.windows % 8 == 0
    assert found.by_clock > 0
    assert found.memory > 0
    assert "torch" in found.versions
