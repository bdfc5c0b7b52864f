from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from trainer.dataset.clock import to_micros
from trainer.dataset.errors import DatasetError

SECOND = 1_000_000
MOMENT = 1_769_864_700  # 2026-01-31T13:05:00Z


def micros(values: Any, kind: pa.DataType | None = None) -> list[int]:
    array = pa.array(values, kind)
    if pa.types.is_string(array.type):
        array = array.dictionary_encode()
    found: list[int] = to_micros(pa.chunked_array([array]), "at").tolist()
    return found


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T13:05:00Z",
        "2026-01-31T13:05:00",
        "2026-01-31 13:05",
        "2026-01-31T14:05:00+01:00",
        "2026-01-31 08:05:00 -0500",
        "2026-01-31 13:05:00 UTC",
        "2026-01-31T13:05:00.000000000Z",
        "2026-01-31 13:05:00,000",
        "2026/01/31 13:05:00",
        "20260131T130500Z",
        " 2026-01-31T13:05:00z ",
    ],
)
def test_spellings_of_one_moment_agree(text: str) -> None:
    assert micros([text]) == [MOMENT * SECOND]


def test_zoned_and_naive_stamps_may_stand_in_one_column() -> None:
    assert micros(["2026-01-31T13:05:00", "2026-01-31T15:05:00+02:00"]) == [MOMENT * SECOND] * 2


@pytest.mark.parametrize("unit", [1, 1_000, 1_000_000, 1_000_000_000])
def test_epoch_numbers_tell_their_unit_by_their_size(unit: int) -> None:
    assert micros([MOMENT * unit, (MOMENT + 300) * unit]) == [MOMENT * SECOND, (MOMENT + 300) * SECOND]


def test_fractions_of_epoch_seconds_are_kept() -> None:
    assert micros([MOMENT + 0.25]) == [MOMENT * SECOND + 250_000]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_arrow_stamps_of_any_unit_and_zone_are_instants(unit: str, zone: str | None) -> None:
    moment = datetime(2026, 1, 31, 13, 5, tzinfo=UTC)
    stamp = moment if zone else moment.replace(tzinfo=None)
    assert micros([stamp], pa.timestamp(unit, zone)) == [MOMENT * SECOND]


def test_dates_are_midnights() -> None:
    assert micros([date(2026, 1, 31)]) == [(MOMENT - 13 * 3600 - 300) * SECOND]


@pytest.mark.parametrize(
    ("values", "row"),
    [
        (["2026-01-31", "yesterday", "2026-02-01"], 2),
        (["2026-01-31", "2026-02-28", "2026-02-30"], 3),
        ([1.5, None], 2),
        ([None, "2026-01-31"], 1),
        ([float("nan"), 1.0], 1),
        ([True, False], None),
    ],
)
def test_a_value_that_is_no_time_is_named_with_its_row(values: list[Any], row: int | None) -> None:
    with pytest.raises(DatasetError) as caught:
        micros(values)
    assert caught.value.problem.code == "bad_time_value"
    assert (caught.value.problem.column, caught.value.problem.row) == ("at", row)
