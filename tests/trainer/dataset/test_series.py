from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainer.dataset.samples import START, as_ndjson, fleet, stamp
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import SeriesData, load_series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trainer.dataset.conftest import Write

STEP = 300_000_000
BEGIN = int(START.timestamp()) * 1_000_000


def load(
    write: Write,
    rows: Any,
    numeric: list[str] | None = None,
    categorical: list[str] | None = None,
    policy: Any = "interpolate",
    kind: Any = "csv",
    **mapping: Any,
) -> SeriesData:
    how = DatasetMapping(**mapping)
    path = write(rows)
    schema = inspect(path, kind, how)
    return load_series(path, kind, how, schema, numeric or ["cpu_percent"], categorical or [], policy)


def with_values(values: list[Any]) -> list[dict[str, Any]]:
    return [{"timestamp": stamp(step), "cpu_percent": value} for step, value in enumerate(values)]


def test_series_are_sorted_by_name_and_laid_end_to_end(write: Write) -> None:
    rows = fleet(3, 30)
    shuffled = [rows[place] for place in np.random.default_rng(1).permutation(90)]
    data = load(write, shuffled, categorical=["server"])
    assert data.series_names == ["a", "b", "c"]
    assert data.offsets.tolist() == [0, 30, 60, 90]
    assert data.times[30:33].tolist() == [BEGIN, BEGIN + STEP, BEGIN + 2 * STEP]
    assert data.values["cpu_percent"].dtype == np.float32
    assert data.values["cpu_percent"].tolist() == [row["cpu_percent"] for row in rows]
    assert data.observed["cpu_percent"].all()
    assert data.categories == {"server": ["a", "b", "c"]}
    assert (data.n_series, data.lengths.tolist(), data.frequency_seconds) == (3, [30, 30, 30], 300.0)


def test_without_group_columns_the_series_is_called_all(write: Write) -> None:
    assert load(write, with_values([1.0, 2.0, 3.0])).series_names == ["all"]


def test_several_group_columns_make_one_name_and_clashes_are_avoided(write: Write) -> None:
    pairs = [("a/b", "c"), ("a", "b/c")]
    rows = [
        {"timestamp": stamp(step), "server": server, "device": device, "cpu_percent": step}
        for server, device in pairs
        for step in range(30)
    ]
    groups = ["server", "device"]
    assert load(write, rows, group_columns=groups).series_names == ["a%2Fb/c", "a/b%2Fc"]
    plain = [row | {"server": str(row["server"]).replace("/", "-")} for row in rows]
    assert load(write, plain, group_columns=groups).series_names == ["a-b/c", "a/b/c"]


def test_the_last_of_two_rows_for_one_stamp_wins(write: Write) -> None:
    rows = fleet(1, 30)
    data = load(write, [*rows, rows[3] | {"cpu_percent": 77.0}])
    assert data.values["cpu_percent"][3] == 77.0
    assert len(data.times) == 30


def test_short_gaps_are_interpolated_and_long_ones_carried_and_masked(write: Write) -> None:
    values = [1.0, None, None, None, 9.0, None, None, None, None, 4.0, 5.0, "inf", 7.0]
    data = load(write, with_values(values))
    assert data.values["cpu_percent"].tolist() == [1, 3, 5, 7, 9, 9, 9, 9, 9, 4, 5, 6, 7]
    assert np.flatnonzero(~data.observed["cpu_percent"]).tolist() == [1, 2, 3, 5, 6, 7, 8, 11]


def test_missing_rows_are_filled_like_missing_values(write: Write) -> None:
    rows = with_values([float(step) for step in range(40)])
    data = load(write, [row for step, row in enumerate(rows) if step != 4 and not 20 <= step < 26])
    assert len(data.times) == 40
    assert data.values["cpu_percent"][4] == 4.0
    assert data.values["cpu_percent"][20:26].tolist() == [19.0] * 6
    assert np.flatnonzero(~data.observed["cpu_percent"]).tolist() == [4, 20, 21, 22, 23, 24, 25]


def test_a_gap_at_the_start_takes_the_first_value_and_one_at_the_end_the_last(write: Write) -> None:
    data = load(write, with_values([None, None, 3.0, 4.0, 5.0, None]))
    assert data.values["cpu_percent"].tolist() == [3, 3, 3, 4, 5, 5]
    assert data.observed["cpu_percent"].tolist() == [False, False, True, True, True, False]


def test_gaps_do_not_reach_into_the_next_series(write: Write) -> None:
    rows = fleet(2, 30)
    for place in (29, 30, 31):
        rows[place]["cpu_percent"] = None
    data = load(write, rows)
    assert data.values["cpu_percent"][29] == rows[28]["cpu_percent"]
    assert data.values["cpu_percent"][30] == rows[32]["cpu_percent"]
    assert not data.observed["cpu_percent"][29:32].any()


def test_a_series_without_any_value_is_zero_and_masked(write: Write) -> None:
    rows = [row | ({"cpu_percent": None} if row["server"] == "b" else {}) for row in fleet(2, 30)]
    data = load(write, rows)
    assert data.values["cpu_percent"][30:].tolist() == [0.0] * 30
    assert not data.observed["cpu_percent"][30:].any()


def test_mask_carries_the_last_value_through_every_gap(write: Write) -> None:
    data = load(write, with_values([1.0, None, 3.0, 4.0]), policy="mask")
    assert data.values["cpu_percent"].tolist() == [1, 1, 3, 4]
    assert data.observed["cpu_percent"].tolist() == [True, False, True, True]


def test_error_refuses_gaps_and_names_the_first(write: Write) -> None:
    rows = fleet(2, 30)
    del rows[40]
    with pytest.raises(DatasetError) as caught:
        load(write, rows, policy="error")
    assert caught.value.problem.code == "missing_values"
    assert stamp(10) in caught.value.problem.detail
    assert "'b'" in caught.value.problem.detail


def test_unaligned_stamps_land_on_the_nearest_step(write: Write) -> None:
    rows = [{"timestamp": stamp(step, offset=(-1) ** step * 20), "cpu_percent": step} for step in range(40)]
    data = load(write, rows)
    assert np.diff(data.times).tolist() == [STEP] * 39
    assert data.times[0] == BEGIN
    assert data.values["cpu_percent"].tolist() == list(range(40))


def test_what_was_filled_is_reported(write: Write) -> None:
    data = load(write, with_values([1.0, None, 3.0, None, None, None, None, 8.0]))
    finding = next(found for found in data.findings if found.code == "missing_values")
    assert finding.examples == [{"column": "cpu_percent", "interpolated": 1, "masked": 4}]


def test_a_category_that_changes_within_a_series_is_refused(write: Write) -> None:
    rows = [row | {"zone": "east"} for row in fleet(2, 30)]
    assert load(write, rows, categorical=["zone"]).categories == {"zone": ["east", "east"]}
    rows[45]["zone"] = "west"
    with pytest.raises(DatasetError) as caught:
        load(write, rows, categorical=["zone"])
    assert caught.value.problem.code == "varying_category"
    assert "'b'" in caught.value.problem.detail


def test_a_category_may_be_missing_here_and_there(write: Write) -> None:
    rows = [row | {"zone": "east" if row["server"] == "a" else None} for row in fleet(2, 30)]
    rows[3]["zone"] = None
    assert load(write, rows, categorical=["zone"]).categories["zone"] == ["east", "(none)"]


def test_text_or_an_empty_column_cannot_be_numbers(write: Write) -> None:
    rows = [row | {"zone": "east", "empty": None} for row in fleet(2, 30)]
    for name in ("zone", "empty"):
        with pytest.raises(DatasetError) as caught:
            load(write, rows, numeric=[name])
        assert (caught.value.problem.code, caught.value.problem.column) == ("no_numeric_column", name)


def test_names_of_the_mapping_hold_in_every_format(write: Write) -> None:
    mapping = {"columns": {"cpu_percent": {"name": "cpu"}, "server": {"name": "host"}}}
    data = load(write, as_ndjson(fleet(2, 30)), ["cpu"], ["host"], kind="ndjson", **mapping)
    assert data.categories == {"host": ["a", "b"]}
    assert data.values["cpu"][0] == 0.5


@pytest.mark.parametrize("lost", [(), (7, 8, 40, 61)], ids=["whole", "gappy"])
def test_the_order_of_the_file_changes_nothing(write: Write, lost: tuple[int, ...]) -> None:
    by_server = [row for place, row in enumerate(fleet(3, 30)) if place not in lost]
    by_time = sorted(by_server, key=lambda row: row["timestamp"])
    shuffled = [by_server[place] for place in np.random.default_rng(2).permutation(len(by_server))]
    first, *others = [load(write, rows, categorical=["server"]) for rows in (by_server, by_time, shuffled)]
    for other in others:
        assert other.series_names == first.series_names
        assert other.categories == first.categories
        assert np.array_equal(other.offsets, first.offsets)
        assert np.array_equal(other.times, first.times)
        assert np.array_equal(other.values["cpu_percent"], first.values["cpu_percent"])
        assert np.array_equal(other.observed["cpu_percent"], first.observed["cpu_percent"])


def test_parquet_read_column_by_column_gives_what_csv_gives(tmp_path: Path, write: Write) -> None:
    rows = [row | {"memory_percent": 90.0 - row["cpu_percent"]} for row in fleet(2, 30)]
    columns = ["cpu_percent", "memory_percent"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    text, binary = (
        load(write, content, columns, ["server"], kind=kind)
        for content, kind in ((rows, "csv"), ((tmp_path / "rows.parquet").read_bytes(), "parquet"))
    )
    assert binary.categories == text.categories
    for name in columns:
        assert np.array_equal(binary.values[name], text.values[name])


def test_mapped_values_are_the_same_and_their_files_have_no_name(tmp_path: Path, write: Write) -> None:
    rows = with_values([1.0, None, 3.0, 4.25, None, None, None, None, 9.1])
    path, how = write(rows), DatasetMapping()
    schema = inspect(path, "csv", how)
    folder = tmp_path / "mapped"
    held, mapped = (
        load_series(path, "csv", how, schema, ["cpu_percent"], [], "interpolate", mapped_in=place)
        for place in (None, folder)
    )
    assert isinstance(mapped.values["cpu_percent"], np.memmap)
    assert np.array_equal(mapped.values["cpu_percent"], held.values["cpu_percent"])
    assert list(folder.iterdir()) == []
