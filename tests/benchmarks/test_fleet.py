from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from benchmarks.fleet import Part, load_fleet, read_fleet
from tests.benchmarks.fleets import small_fleet
from trainer.dataset.series import SeriesData
from trainer.split import Windows, split_series

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = ["cpu_percent", "memory_percent"]


def _frame(lengths: list[int]) -> pd.DataFrame:
    parts = []
    for number, length in enumerate(lengths):
        times = pd.date_range("2026-01-05", periods=length, freq="5min", tz="UTC") + pd.Timedelta(days=number)
        values = np.arange(length, dtype=np.float32) + 1000 * number
        parts.append(
            pd.DataFrame(
                {"server": f"s{number}", "timestamp": times, "cpu_percent": values, "memory_percent": -values}
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_a_day_of_five_minutes_has_29_steps_to_test_and_58_to_validate(tmp_path: Path) -> None:
    _frame([288, 288]).to_parquet(tmp_path / "day.parquet")

    fleet = read_fleet(tmp_path / "day.parquet", TARGETS, servers=1, new=1)

    assert (fleet.train_end, fleet.validation_end, fleet.steps) == (201, 259, 288)
    assert [len(fleet.origins(part)) for part in ("train", "validation", "test")] == [142, 47, 18]


def test_the_windows_are_those_that_our_trainer_cuts() -> None:
    fleet = small_fleet(servers=2, seen=2)
    series = SeriesData(
        series_names=list(fleet.servers),
        offsets=np.array([0, fleet.steps, 2 * fleet.steps]),
        times=fleet.times.reshape(-1).astype(np.int64),
        frequency_seconds=300.0,
        values={},
        observed={},
        categories={},
        findings=[],
    )

    split = split_series(
        series, encoder_length=6, horizon=3, validation_split=0.2, test_split=0.1, window_stride=1
    )

    assert split.test is not None
    parts: list[tuple[Part, Windows]] = [
        ("train", split.train),
        ("validation", split.validation),
        ("test", split.test),
    ]
    for part, windows in parts:
        origins = fleet.origins(part)
        assert windows.total == 2 * len(origins)
        assert windows.locate(np.arange(len(origins)))[1].tolist() == origins.tolist()


def test_servers_are_taken_in_sorted_order_from_the_one_asked_for(tmp_path: Path) -> None:
    frame = _frame([20, 20, 20, 20]).sample(frac=1.0, random_state=1)
    frame.to_parquet(tmp_path / "mixed.parquet")

    fleet = read_fleet(tmp_path / "mixed.parquet", TARGETS, first=1, servers=2, new=1)

    assert fleet.servers == ("s1", "s2", "s3")
    assert fleet.table[fleet.of("new")][0, :3, 0].tolist() == [3000.0, 3001.0, 3002.0]
    assert fleet.table[0, :2, 1].tolist() == [-1000.0, -1001.0]


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (_frame([20, 19, 21]), "differ in length"),
        (_frame([20, 21]).drop(index=25), "gaps"),
        (_frame([20, 20]).replace({"cpu_percent": {5.0: np.nan}}), "gaps"),
        (_frame([20]), "no 2 servers"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(frame: pd.DataFrame, complaint: str, tmp_path: Path) -> None:
    frame.to_parquet(tmp_path / "bad.parquet")

    with pytest.raises(ValueError, match=complaint):
        read_fleet(tmp_path / "bad.parquet", TARGETS, servers=1, new=frame["server"].nunique() - 1 or 1)


def test_a_fleet_survives_the_way_to_another_environment(tmp_path: Path) -> None:
    fleet = small_fleet()
    fleet.save(tmp_path / "fleet.npz")

    assert load_fleet(tmp_path / "fleet.npz").sha256() == fleet.sha256()


def test_one_changed_value_changes_the_hash() -> None:
    fleet, other = small_fleet(), small_fleet()
    other.table[1, 5, 0] += np.float32(0.5)

    assert fleet.sha256() != other.sha256()


def test_the_frame_holds_a_group_and_its_own_clock() -> None:
    fleet = small_fleet()

    frame = fleet.frame("new")

    assert frame["server"].unique().tolist() == ["server-2", "server-3"]
    assert frame["timestamp"].iloc[0] == pd.Timestamp("2026-01-07")
    assert frame["memory_percent"].to_numpy()[:60].tolist() == fleet.table[2, :, 1].tolist()
