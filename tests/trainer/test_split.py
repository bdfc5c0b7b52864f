from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.errors import InvalidDataset
from trainer.split import Split, Windows, split_series, too_short

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.dataset.series import SeriesData

    MakeSeries = Callable[..., SeriesData]


def split(series: SeriesData, **changes: Any) -> Split:
    asked: dict[str, Any] = {
        "encoder_length": 48,
        "horizon": 12,
        "validation_split": 0.2,
        "test_split": 0.1,
        "window_stride": 1,
    }
    return split_series(series, **(asked | changes))


def origins(windows: Windows) -> list[int]:
    return [int(origin) for origin in windows.locate(np.arange(windows.total))[1]]


def test_the_tails_are_the_shares_of_each_series(make_series: MakeSeries) -> None:
    parts = split(make_series([288, 576]))

    assert parts.train_end.tolist() == [288 - 29 - 58, 288 + 576 - 58 - 115]
    assert parts.validation_end.tolist() == [288 - 29, 288 + 576 - 58]


def test_a_window_belongs_to_the_part_that_holds_its_whole_horizon(make_series: MakeSeries) -> None:
    parts = split(make_series([288]))
    assert parts.test is not None

    assert origins(parts.train) == list(range(48, 201 - 12 + 1))
    assert origins(parts.validation) == list(range(201, 259 - 12 + 1))
    assert origins(parts.test) == list(range(259, 288 - 12 + 1))


def test_a_stride_keeps_the_newest_training_window(make_series: MakeSeries) -> None:
    parts = split(make_series([288]), window_stride=10)

    assert origins(parts.train)[-1] == 201 - 12
    assert set(np.diff(origins(parts.train))) == {10}
    assert origins(parts.train)[0] >= 48


def test_short_tails_grow_to_one_horizon_and_are_counted(make_series: MakeSeries) -> None:
    parts = split(make_series([90, 288]))
    assert parts.test is not None

    assert parts.lengthened == 1
    assert (parts.validation_end - parts.train_end).tolist() == [18, 58]
    assert (parts.end - parts.validation_end).tolist() == [12, 29]
    assert parts.test.counts.tolist() == [1, 18]


def test_series_that_are_too_short_are_listed_and_left_out(make_series: MakeSeries) -> None:
    series = make_series([40, 288, 70])
    parts = split(series)

    assert parts.usable.tolist() == [False, True, False]
    assert set(parts.train.series) == {1}
    assert too_short(series, parts) == (
        "2 of 3 series are too short and left out: server-00 (40 steps), server-02 (70 steps)"
    )


def test_no_usable_series_names_them_and_says_what_is_needed(make_series: MakeSeries) -> None:
    with pytest.raises(InvalidDataset, match=r"at least 84 steps.*70 \(server-01 \(70 steps\), server-00"):
        split(make_series([40, 70]))


def test_without_a_test_share_there_is_no_test_part(make_series: MakeSeries) -> None:
    parts = split(make_series([288]), test_split=0.0)

    assert parts.test is None
    assert parts.validation_end.tolist() == [288]


def test_thinning_takes_every_kth_window_but_never_skips_a_horizon(make_series: MakeSeries) -> None:
    windows = split(make_series([288, 288])).train
    thinned = windows.thinned(100, longest_stride=12)
    coarsest = windows.thinned(2, longest_stride=12)

    assert windows.total == 284
    assert origins(thinned) == origins(windows)[0:142:3] + origins(windows)[142::3]
    assert set(np.diff(origins(coarsest)[:10])) == {12}
    assert windows.thinned(1000, longest_stride=12) is windows
