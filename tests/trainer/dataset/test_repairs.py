from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.trainer.dataset.samples import fleet, stamp
from trainer.dataset.inspection import inspect
from trainer.dataset.repairs import MOST_SERIES, Repairs, data_report
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import SeriesData, load_series

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Write


def load(write: Write, rows: Any, policy: Any = "interpolate") -> SeriesData:
    path, mapping = write(rows), DatasetMapping()
    schema = inspect(path, "csv", mapping)
    return load_series(path, "csv", mapping, schema, ["cpu_percent", "memory_percent"], [], policy)


def report_of(data: SeriesData, usable: list[bool] | None = None) -> dict[str, Any]:
    assert data.repairs is not None
    kept = np.array(usable) if usable else np.ones(data.n_series, np.bool_)
    return data_report(data.series_names, data.lengths, data.repairs, kept)


def troubled_fleet() -> list[dict[str, Any]]:
    """Of three servers one is sound; `b` lacks and repeats rows, `c` has values missing and stamps moved."""
    rows = [row | {"memory_percent": 50.0} for row in fleet(3, 40)]
    by_name = {name: [row for row in rows if row["server"] == name] for name in "abc"}
    del by_name["b"][20:25]
    by_name["b"].append(by_name["b"][3] | {"cpu_percent": 77.0})
    for step in (10, 11):
        by_name["c"][step]["memory_percent"] = None
    by_name["c"][30]["timestamp"] = stamp(30, offset=20)
    return [row for part in by_name.values() for row in part]


def test_each_series_is_counted_by_what_was_done_to_it(write: Write) -> None:
    report = report_of(load(write, troubled_fleet()))
    worst = {entry["series"]: entry for entry in report["worst"]}

    assert (report["series"], report["steps"], report["touched_series"]) == (3, 120, 2)
    assert list(worst) == ["b", "c"]
    assert worst["b"] == {
        "series": "b",
        "steps": 40,
        "too_short": False,
        "duplicates": 1,
        "moved_stamps": 0,
        "missing_steps": 5,
        "columns": {
            "cpu_percent": {"interpolated": 0, "masked": 5},
            "memory_percent": {"interpolated": 0, "masked": 5},
        },
    }
    assert worst["c"]["moved_stamps"] == 1
    assert worst["c"]["columns"] == {"memory_percent": {"interpolated": 2, "masked": 0}}


def test_totals_are_the_sums_over_all_series(write: Write) -> None:
    totals = report_of(load(write, troubled_fleet()), usable=[False, True, True])["totals"]

    assert totals == {
        "duplicates": 1,
        "moved_stamps": 1,
        "missing_steps": 5,
        "too_short": 1,
        "columns": {
            "cpu_percent": {"interpolated": 0, "masked": 5},
            "memory_percent": {"interpolated": 2, "masked": 5},
        },
    }


def test_series_that_were_left_out_come_first(write: Write) -> None:
    worst = report_of(load(write, troubled_fleet()), usable=[False, True, True])["worst"]

    assert [(entry["series"], entry["too_short"]) for entry in worst] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


def test_under_mask_nothing_counts_as_interpolated(write: Write) -> None:
    totals = report_of(load(write, troubled_fleet(), policy="mask"))["totals"]

    assert totals["columns"]["memory_percent"] == {"interpolated": 0, "masked": 7}


def test_a_long_list_is_cut_but_its_totals_are_whole() -> None:
    count = MOST_SERIES + 5
    nothing = np.zeros(count, np.int64)
    repairs = Repairs(np.arange(count), nothing, nothing, {}, {})
    report = data_report(
        [f"s{i}" for i in range(count)], np.full(count, 9), repairs, np.ones(count, np.bool_)
    )

    assert report["listed_series"] == len(report["worst"]) == MOST_SERIES
    assert report["touched_series"] == count - 1
    assert report["worst"][0]["series"] == f"s{count - 1}"
    assert report["totals"]["duplicates"] == count * (count - 1) // 2
