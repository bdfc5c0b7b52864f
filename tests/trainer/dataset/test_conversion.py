"""Units, counters, and what the mapping asks of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainer.dataset.samples import fleet, stamp
from trainer.dataset.rates import growth_per_second
from trainer.dataset.schema import ColumnMapping, DatasetMapping
from trainer.dataset.series import load_series
from trainer.dataset.units import Conversion, conversion_between, rate_unit

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse, Write


@pytest.mark.parametrize(
    ("source", "target", "number", "converted"),
    [
        ("fraction", "%", 0.25, 25.0),
        ("bytes", "GiB", 2.0**31, 2.0),
        ("MB", "bytes", 1.5, 1.5e6),
        ("Mbit/s", "MB/s", 8.0, 1.0),
        ("ms", "s", 250.0, 0.25),
        ("ms/s", "%", 250.0, 25.0),
        ("°C", "°F", 100.0, 212.0),
        ("K", "celsius", 273.15, 0.0),
    ],
)
def test_a_number_is_the_same_quantity_in_its_new_unit(
    source: str, target: str, number: float, converted: float
) -> None:
    conversion = conversion_between(source, target)
    assert number * conversion.factor + conversion.offset == pytest.approx(converted)


def test_a_unit_in_itself_changes_nothing() -> None:
    assert conversion_between("bytes/s", "B/s") == Conversion(1.0, 0.0)
    assert rate_unit("seconds") == "fraction"
    assert rate_unit("bytes") == "bytes/s"


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"convert_to": "GiB"}, "needs unit"),
        ({"unit": "bytes", "convert_to": "%"}, "a unit of data"),
        ({"unit": "bananas", "convert_to": "%"}, "'bananas'"),
        ({"unit": "bytes", "counter": True, "convert_to": "GiB"}, "data a second"),
        ({"unit": "°C/s", "convert_to": "K/s"}, "cannot be converted"),
    ],
)
def test_units_that_do_not_fit_are_refused_with_the_mapping(told: dict[str, Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        ColumnMapping(**told)


def test_a_counter_s_growth_is_per_second_and_covers_gaps() -> None:
    seconds = np.array([0, 10, 20, 50, 60])
    values = np.array([100.0, 150.0, np.nan, 350.0, 350.0])
    rates = growth_per_second(values, seconds * 1_000_000)
    np.testing.assert_array_equal(rates, [np.nan, 5.0, np.nan, 5.0, 0.0])


def test_a_counter_that_began_anew_has_grown_from_zero() -> None:
    rates = growth_per_second(np.array([900.0, 1000.0, 30.0, 60.0]), np.arange(4) * 10_000_000)
    np.testing.assert_array_equal(rates, [np.nan, 10.0, 3.0, 3.0])


def test_a_counter_is_followed_along_each_server_whatever_the_order_of_rows(
    describe: Describe, write: Write
) -> None:
    rows = [
        {"timestamp": stamp(step, seconds=60), "server": server, "sent": (step + 1) * 60_000 * (place + 1)}
        for step in range(40)
        for place, server in enumerate("ab")
    ]
    mapping = {
        "columns": {"sent": {"name": "net_out", "unit": "bytes", "counter": True, "convert_to": "kB/s"}}
    }
    schema = describe(rows, **mapping)
    column = next(column for column in schema.columns if column.name == "net_out")
    assert (column.unit, column.minimum, column.maximum, column.missing_count) == ("kB/s", 1.0, 2.0, 2)
    series = load_series(
        write(rows), "csv", DatasetMapping(**mapping), schema, ["net_out"], [], "interpolate"
    )
    assert set(series.values["net_out"][1:40]) == {1.0}
    assert set(series.values["net_out"][41:]) == {2.0}


def test_a_column_changes_its_unit_before_its_range_is_judged(describe: Describe) -> None:
    rows = [{**row, "cpu_percent": row["cpu_percent"] / 100} for row in fleet()]
    schema = describe(rows, columns={"cpu_percent": {"unit": "fraction", "convert_to": "%"}})
    column = next(column for column in schema.columns if column.name == "cpu_percent")
    assert column.unit == "%"
    assert column.maximum == pytest.approx(49.5)


def test_text_cannot_be_converted(refuse: Refuse) -> None:
    problem = refuse(fleet(), columns={"server": {"counter": True}})
    assert (problem.code, problem.column) == ("bad_mapping", "server")
