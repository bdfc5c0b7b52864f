from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.dataset.samples import fleet, stamp
from trainer.dataset.roles import words

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse


def renamed(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]


def test_words_of_a_column_name_are_split_at_case_digits_and_signs() -> None:
    assert words("diskIO_percent") == ["disk", "io", "percent"]
    assert words("HTTPLoad15.max") == ["http", "load", "15", "max"]


@pytest.mark.parametrize("name", ["timestamp", "Date Time", "ds", "whatever"])
def test_the_only_column_of_iso_times_is_the_clock_whatever_its_name(describe: Describe, name: str) -> None:
    assert describe(renamed(fleet(), timestamp=name)).time_column == name


@pytest.mark.parametrize("name", ["time", "ts", "epoch_ms", "scraped_at"])
def test_epoch_numbers_are_a_clock_if_their_name_says_so(describe: Describe, name: str) -> None:
    rows = [
        {
            name: 1_767_225_600_000 + 300_000 * step,
            "cpu_percent": step % 7,
            "bytes_sent": 5_000_000_000 + step,
        }
        for step in range(30)
    ]
    schema = describe(rows)
    assert (schema.time_column, schema.frequency_seconds) == (name, 300.0)


def test_without_a_clock_the_columns_are_listed(refuse: Refuse) -> None:
    problem = refuse("server,cpu_percent\na,1\nb,2\n")
    assert problem.code == "no_time_column"
    assert "server, cpu_percent" in problem.detail


def test_several_clocks_are_ambiguous_until_one_is_named(refuse: Refuse, describe: Describe) -> None:
    rows = [row | {"created": row["timestamp"]} for row in fleet()]
    problem = refuse(rows)
    assert problem.code == "ambiguous_time_column"
    assert "timestamp, created" in problem.detail
    assert "mapping.time_column" in problem.detail
    assert describe(rows, time_column="created").time_column == "created"


def test_a_clock_with_a_bad_value_is_refused_with_its_row(refuse: Refuse) -> None:
    rows = fleet()
    rows[16]["timestamp"] = "soon"
    problem = refuse(rows)
    assert (problem.code, problem.column, problem.row) == ("bad_time_value", "timestamp", 17)


def test_a_clock_of_words_alone_is_refused_by_its_first_row(refuse: Refuse) -> None:
    problem = refuse("time,cpu_percent\nnoon,1\nevening,2\n")
    assert (problem.code, problem.column, problem.row) == ("bad_time_value", "time", 1)


@pytest.mark.parametrize("name", ["server", "hostName", "instance", "vm_id", "node", "MachineID", "id"])
def test_a_column_named_like_a_server_names_the_series(describe: Describe, name: str) -> None:
    schema = describe(renamed(fleet(), server=name))
    assert (schema.group_columns, schema.series_count) == ([name], 2)


def test_integer_ids_name_series_and_are_no_numbers(describe: Describe) -> None:
    rows = [row | {"server": ord(row["server"])} for row in fleet()]
    schema = describe(rows)
    assert schema.group_columns == ["server"]
    assert schema.numeric_columns() == ["cpu_percent"]


def test_a_single_server_is_named_too(describe: Describe) -> None:
    assert describe(fleet(1)).group_columns == ["server"]


def test_a_row_number_names_no_series(describe: Describe) -> None:
    rows = [{"id": place, **row} for place, row in enumerate(fleet())]
    assert describe(rows).group_columns == ["server"]


def test_a_second_name_of_the_same_server_is_not_a_group(describe: Describe) -> None:
    rows = [row | {"host_name": row["server"] * 2} for row in fleet()]
    assert describe(rows).group_columns == ["server"]


def test_server_and_device_name_a_series_together(describe: Describe) -> None:
    rows = [row | {"device": device} for row in fleet() for device in ("sda", "sdb")]
    schema = describe(rows)
    assert (schema.group_columns, schema.series_count) == (["server", "device"], 4)


def test_text_columns_that_tell_repeated_stamps_apart_are_found(describe: Describe) -> None:
    rows = [
        {
            "timestamp": row["timestamp"],
            "status": "ok",
            "rack": row["server"],
            "cpu_percent": row["cpu_percent"],
        }
        for row in fleet(3)
    ]
    assert describe(rows).group_columns == ["rack"]


def test_without_repeated_stamps_a_text_column_is_only_text(describe: Describe) -> None:
    rows = [
        {"timestamp": stamp(step), "status": "ok" if step % 3 else "warn", "cpu_percent": step}
        for step in range(30)
    ]
    schema = describe(rows)
    assert (schema.group_columns, schema.series_count) == ([], 1)


def test_series_that_nothing_tells_apart_are_refused(refuse: Refuse) -> None:
    rows = [{"timestamp": row["timestamp"], "cpu_percent": row["cpu_percent"]} for row in fleet(3)]
    problem = refuse(rows)
    assert problem.code == "duplicate_rows"
    assert "mapping.group_columns" in problem.detail


def test_the_mapping_decides_over_what_is_detected(describe: Describe) -> None:
    rows = [row | {"rack": "r1", "cpu": row["cpu_percent"]} for row in fleet()]
    schema = describe(rows, group_columns=["rack", "server"], columns={"server": {"name": "host"}})
    assert schema.group_columns == ["rack", "host"]


def test_an_unknown_clock_or_group_lists_the_columns(refuse: Refuse) -> None:
    for mapping in ({"time_column": "when"}, {"group_columns": ["when"]}):
        problem = refuse(fleet(), **mapping)
        assert (problem.code, problem.column) == ("unknown_column", "when")
        assert "timestamp, server, cpu_percent" in problem.detail
