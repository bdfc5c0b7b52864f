from __future__ import annotations

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from benchmarks import quality
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.naive import LAST_VALUE, SEASONAL_NAIVE
from benchmarks.store import ROOT
from tests.benchmarks import copycat
from tests.benchmarks.fleets import small_fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Run = Any


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five servers of 90 steps, enough for a 48-step encoder and tails that hold a horizon of 12."""
    frame = small_fleet(servers=5, seen=5, steps=150).frame("seen").drop(columns="time_idx")
    path = tmp_path / "data.parquet"
    frame.assign(timestamp=pd.to_datetime(frame["timestamp"], utc=True)).to_parquet(path)
    return path


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The benchmark with a contestant that repeats the last value; arguments go over the usual ones."""

    def benchmark(*arguments: str, **options: Any) -> int:
        copy = Contestant(
            "copycat",
            "tests.benchmarks.copycat",
            (ROOT / "tests" / "benchmarks" / "copycat.py",),
            options={"starts": str(tmp_path / "starts")} | options,
        )
        monkeypatch.setitem(CONTESTANTS, "copycat", copy)
        usual = ["--data", str(data), "--servers", "3", "--new", "2", "--store", str(tmp_path / "store")]
        usual += ["--contestants", "copycat", "--seeds", "1", "2", *arguments]
        monkeypatch.setattr(sys, "argv", ["quality", *usual])
        return quality.main()

    return benchmark


def _starts(tmp_path: Path) -> list[str]:
    file = tmp_path / "starts"
    return file.read_text().split() if file.exists() else []


@pytest.mark.slow
def test_a_benchmark_that_was_cut_off_goes_on_with_the_seeds_it_lacks(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--seeds", "1") == 0
    assert run() == 0

    assert _starts(tmp_path) == ["1", "2"]
    assert "| copycat | last | 2 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("code", "said"), [(3, 3), (0, -15)])  # told to stop, Lightning ends with 0
def test_a_contestant_that_ends_without_forecasts_is_said_and_the_others_go_on(
    code: int, said: int, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(exit=code) == 1

    assert _starts(tmp_path) == ["1", "2"]
    assert f"seed 1 failed ({said})" in capsys.readouterr().out
    assert not list((tmp_path / "store").glob("*.json"))


@pytest.mark.slow
def test_forecasts_that_are_no_numbers_are_no_finished_run(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("--seeds", "1", value=float("nan")) == 1

    assert not list((tmp_path / "store").glob("*.json"))


def test_nothing_starts_after_the_time_that_was_set(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minute_ago = datetime.now().astimezone() - timedelta(minutes=1)
    if minute_ago.date() != datetime.now().astimezone().date():
        minute_ago = datetime.now().astimezone().replace(hour=0, minute=0)

    assert run("--until", f"{minute_ago:%H:%M}") == 0

    assert _starts(tmp_path) == []
    assert "nothing more is started" in capsys.readouterr().out


def test_without_any_run_the_table_holds_the_naive_forecasts(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--table-only") == 0

    table = capsys.readouterr().out
    assert _starts(tmp_path) == []
    assert table.count(f"| {LAST_VALUE} |") == 4
    assert table.count(f"| {SEASONAL_NAIVE} |") == 4
    assert "Servers never seen, memory_percent" in table


def test_what_a_peer_forecast_does_not_depend_on_our_trainer() -> None:
    for name in ("neuralforecast", "darts", "baseline"):
        assert not any("trainer" in path.parts for path in CONTESTANTS[name].code)
    assert any(path.name == "trainer" for path in CONTESTANTS["ours"].code)


def test_the_copycat_is_a_contestant_like_any_other() -> None:
    fleet = small_fleet()
    array = copycat._repeated(fleet, "new", "test", None)

    assert array.shape == (*fleet.actual("new", "test").shape, 7)
