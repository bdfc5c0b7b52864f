"""Prometheus answers, VictoriaMetrics exports and line protocol become the same dataset as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.trainer.dataset.monitoring import (
    answer,
    as_influx,
    as_prometheus,
    as_series,
    as_victoriametrics,
    matrix,
)
from tests.trainer.dataset.samples import START, finding_of, fleet
from trainer.dataset.errors import DatasetError
from trainer.dataset.inspection import inspect
from trainer.dataset.limits import ReadLimits
from trainer.dataset.reading import ignored_columns, read_table
from trainer.dataset.schema import DatasetMapping
from trainer.dataset.series import load_series

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse, Write
    from tests.trainer.dataset.samples import Rows

EPOCH = int(START.timestamp())


def two_metrics() -> Rows:
    return [
        {
            **row,
            "region": "eu north" if row["server"] == "a" else "us",
            "memory_percent": row["cpu_percent"] / 2,
        }
        for row in fleet(3, 40)
    ]


EXPORTS = {
    "prometheus": as_prometheus,
    "victoriametrics": as_victoriametrics,
    "influx": as_influx,
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_dataset_is_the_same_as_its_csv_whatever_it_was_exported_from(
    describe: Describe, write: Write, kind: Any
) -> None:
    rows = two_metrics()
    mapping = DatasetMapping()
    from_csv = describe(rows)
    csv_series = load_series(
        write(rows), "csv", mapping, from_csv, ["cpu_percent", "memory_percent"], ["region"], "interpolate"
    )
    exported = EXPORTS[kind](rows)
    schema = describe(exported, kind)
    assert {column.name: column for column in schema.columns} == {
        column.name: column for column in from_csv.columns
    }
    ours = schema.model_dump(exclude={"format", "columns"})
    assert ours == from_csv.model_dump(exclude={"format", "columns"})
    series = load_series(
        write(exported), kind, mapping, schema, ["cpu_percent", "memory_percent"], ["region"], "interpolate"
    )
    assert series.series_names == csv_series.series_names
    assert series.categories == csv_series.categories
    assert (series.times == csv_series.times).all()
    for name, values in csv_series.values.items():
        assert (series.values[name] == values).all()


@pytest.mark.parametrize("kind", EXPORTS)
def test_the_report_finds_gaps_and_values_out_of_range_in_each_format(describe: Describe, kind: Any) -> None:
    rows = fleet(2, 30)
    del rows[10:13]
    rows[5]["cpu_percent"] = 140.0
    schema = describe(EXPORTS[kind](rows), kind)
    assert finding_of(schema, "gaps").row_count == 3
    assert finding_of(schema, "out_of_range").examples[0]["value"] == 140.0


def test_a_matrix_is_read_without_its_envelope_and_several_answers_as_one(write: Write) -> None:
    series = as_series(fleet())
    whole = matrix(series)
    halves = [
        answer([{**one, "values": one["values"][part]} for one in whole])
        for part in (slice(0, 17), slice(15, None))
    ]
    contents = [
        answer(whole),
        json.dumps({"resultType": "matrix", "result": whole}),
        json.dumps(whole),
        "\n".join(halves),
    ]
    tables = [read_table(write(content), "prometheus", DatasetMapping()) for content in contents]
    assert all(table.equals(tables[0]) for table in tables)
    assert tables[0].num_rows == 60


def test_stamps_with_fractions_and_special_numbers_are_prometheus_s_own(write: Write) -> None:
    result = [
        {
            "metric": {"__name__": "up"},
            "values": [[EPOCH + 0.123, "1e3"], [EPOCH + 1, "NaN"], [EPOCH + 2, "+Inf"]],
        }
    ]
    table = read_table(write(answer(result)), "prometheus", DatasetMapping())
    assert table["up"].to_pylist() == [1000.0, np.inf]
    assert table["timestamp"][0].as_py().microsecond == 123_000


def test_labels_that_differ_within_a_server_go_into_the_column_s_name(write: Write) -> None:
    def disk(server: str, mount: str, device: str) -> dict[str, Any]:
        labels = {
            "__name__": "disk_used",
            "instance": server,
            "mountpoint": mount,
            "device": device,
            "job": "node",
        }
        return {"metric": labels, "values": [[EPOCH + step, "1"] for step in range(5)]}

    load = {"__name__": "load1", "instance": "a", "job": "node"}
    result = [
        disk("a", "/", "sda"),
        disk("a", "/data", "sda"),
        disk("b", "/", "nvme0"),
        {"metric": load, "values": [[EPOCH, "0.5"]]},
    ]
    table = read_table(write(answer(result)), "prometheus", DatasetMapping())
    assert table.column_names == [
        "timestamp",
        "instance",
        "job",
        'disk_used{mountpoint="/"}',
        'disk_used{mountpoint="/data"}',
        "load1",
    ]


def test_samples_a_little_apart_share_a_row(write: Write) -> None:
    result = [
        {
            "metric": {"__name__": name, "instance": "a"},
            "values": [[EPOCH + offset + 15 * step, str(step)] for step in range(20)],
        }
        for name, offset in (("cpu", 0.0), ("memory", 3.2))
    ]
    table = read_table(write(answer(result)), "prometheus", DatasetMapping())
    assert table.num_rows == 20
    assert table["memory"].null_count == 0


def test_the_mapping_names_groups_and_columns_by_their_labels(describe: Describe) -> None:
    schema = describe(
        as_prometheus(two_metrics()),
        "prometheus",
        group_columns=["machine"],
        columns={"server": {"name": "machine"}, "cpu_percent": {"name": "cpu", "unit": "%"}},
    )
    assert schema.group_columns == ["machine"]
    assert {column.name: column.unit for column in schema.columns}["cpu"] == "%"


def test_a_label_that_is_not_there_is_named_with_those_that_are(refuse: Refuse) -> None:
    problem = refuse(as_prometheus(fleet()), "prometheus", group_columns=["pod"])
    assert (problem.code, problem.column) == ("unknown_column", "pod")
    assert "server" in problem.detail


def test_histograms_are_left_out_and_named(write: Write) -> None:
    result = [*matrix(as_series(fleet())), {"metric": {"__name__": "latency"}, "histograms": [[EPOCH, {}]]}]
    table = read_table(write(answer(result)), "prometheus", DatasetMapping())
    assert ignored_columns(table) == ["latency"]


def bad_sample(sample: Any) -> str:
    return answer(
        [*matrix(as_series(fleet(1, 3))), {"metric": {"__name__": "cpu"}, "values": [[EPOCH, "1"], sample]}]
    )


@pytest.mark.parametrize("sample", [[EPOCH, "fast"], [EPOCH], EPOCH, None, [EPOCH, None]])
def test_a_bad_sample_of_prometheus_is_shown_with_its_series(refuse: Refuse, sample: Any) -> None:
    problem = refuse(bad_sample(sample), "prometheus")
    assert (problem.code, problem.column, problem.row) == ("unreadable_file", "cpu", 2)
    assert "Sample 2 of series 2" in problem.detail


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (answer([], "vector"), "unsupported_format", "vector"),
        (
            '{"status":"error","errorType":"bad_data","error":"parse error at char 3"}',
            "unsupported_format",
            "char 3",
        ),
        ("timestamp,cpu\n1,2\n", "unsupported_format", "no JSON"),
        ('{"items":[]}', "unsupported_format", "query_range"),
        (answer([]), "empty_file", "no samples"),
        (as_prometheus(fleet())[:-500], "unreadable_file", "cut off"),
        (answer([{"values": []}]), "unreadable_file", "metric"),
        (answer([{"metric": {}, "value": [1, "1"]}]), "unreadable_file", "values"),
        (answer([{"metric": {}, "values": [[1e300, "1"]]}]), "bad_time_value", "years"),
        ("[" * 100_000, "unreadable_file", "deep"),
        (answer([{"metric": {"a": "[" * 40_000}, "values": []}]), "unreadable_file", "longer"),
    ],
)
def test_what_is_no_range_of_samples_is_refused_with_the_reason(
    refuse: Refuse, content: str, code: str, word: str
) -> None:
    problem = refuse(content, "prometheus")
    assert problem.code == code
    assert word in problem.detail


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ('{"metric":{},"values":[1,2],"timestamps":[1]}', "unreadable_file", "2 values and 1 timestamps"),
        ('{"metric":{},"values":["fast"],"timestamps":[1]}', "unreadable_file", '"values"'),
        ('{"metric":{},"values":[1]}', "unreadable_file", '"timestamps"'),
        ('{"metric":{"a":1},"values":[1],"timestamps":[1]}', "unreadable_file", "labels"),
        ('{"metric":{}', "unreadable_file", "JSON"),
        ("[1]", "unreadable_file", "object"),
        ('{"metric":{},"values":[1],"timestamps":[1e300]}', "bad_time_value", "years"),
    ],
)
def test_a_bad_line_of_victoriametrics_is_shown_by_its_number(
    refuse: Refuse, line: str, code: str, word: str
) -> None:
    problem = refuse(as_victoriametrics(fleet(1, 3)) + line + "\n", "victoriametrics")
    assert (problem.code, problem.row) == (code, 2)
    assert word in problem.detail


def test_victoriametrics_writes_no_value_and_infinity_its_own_way(write: Write) -> None:
    line = {"metric": {"__name__": "cpu"}, "values": [1, None, "Infinity"], "timestamps": [0, 1000, 2000]}
    table = read_table(write(json.dumps(line)), "victoriametrics", DatasetMapping())
    assert table["cpu"].to_pylist() == [1.0, np.inf]


def test_line_protocol_with_escapes_strings_types_and_comments(write: Write) -> None:
    first = (
        r"wea\ ther,ho\,st=west\ 1,pla\=ce=n\=1 temp\ c=21.5,ok=t,count=3i,free=7u,"
        r'note="a, b=\"c\" d" 1767225600000000000'
    )
    lines = [
        "# Telegraf",
        first,
        r"wea\ ther,ho\,st=west\ 1,pla\=ce=n\=1 temp\ c=22 1767225660000000000",
        "",
    ]
    table = read_table(write("\r\n".join(lines)), "influx", DatasetMapping())
    assert table["wea ther_temp c"].to_pylist() == [21.5, 22.0]
    assert table["wea ther_ok"].to_pylist() == [1.0, None]
    assert table["wea ther_count"][0].as_py() == 3
    assert table["wea ther_free"][0].as_py() == 7
    assert table["ho,st"][0].as_py() == "west 1"
    assert table["pla=ce"][0].as_py() == "n=1"
    assert ignored_columns(table) == ["wea ther_note"]


def test_line_protocol_in_seconds_is_the_same_as_in_nanoseconds(write: Write) -> None:
    tables = [
        read_table(write(as_influx(fleet(), per_second=unit)), "influx", DatasetMapping())
        for unit in (1, 1000, 10**6, 10**9)
    ]
    assert all(table.equals(tables[0]) for table in tables)


@pytest.mark.parametrize(
    ("line", "code", "column", "word"),
    [
        ("cpu,host=a usage=fast 1767225600000000000", "unreadable_file", "cpu_usage", "'fast'"),
        ("cpu,host=a usage=1.5", "bad_time_value", None, "no timestamp"),
        ("cpu,host=a usage=1.5 noon", "bad_time_value", None, "'noon'"),
        ("cpu,host usage=1.5 1767225600000000000", "unreadable_file", None, "tag"),
        ("cpu,host=a usage 1767225600000000000", "unreadable_file", None, "fields"),
        ("cpu", "unreadable_file", None, "line protocol"),
        ('cpu,host=a note="open 1767225600000000000', "unreadable_file", None, "line protocol"),
        ("cpu,host=a usage=1 99999999999999999999999", "bad_time_value", None, "not a timestamp"),
    ],
)
def test_a_bad_line_of_line_protocol_is_shown_by_its_number(
    refuse: Refuse, line: str, code: str, column: str | None, word: str
) -> None:
    problem = refuse(as_influx(fleet(1, 3)) + line + "\n", "influx")
    assert (problem.code, problem.column, problem.row) == (code, column, 4)
    assert word in problem.detail


@pytest.mark.parametrize("kind", EXPORTS)
def test_more_samples_or_columns_than_the_limits_are_refused(refuse: Refuse, kind: Any) -> None:
    content = EXPORTS[kind](two_metrics())
    assert refuse(content, kind, ReadLimits(max_cells=200)).code == "too_many_rows"
    assert refuse(content, kind, ReadLimits(max_columns=3)).code == "too_many_columns"
    assert refuse(content, kind, ReadLimits(max_rows=100)).code == "too_many_rows"


def test_a_line_without_an_end_is_not_read_into_memory(refuse: Refuse) -> None:
    line = "cpu usage=" + "1" * 5000
    assert "longer" in refuse(line, "influx", ReadLimits(max_line_bytes=1000)).detail
    series = as_victoriametrics(fleet(1, 100))
    assert "longer" in refuse(series, "victoriametrics", ReadLimits(max_series_bytes=1000)).detail


def test_metrics_that_meet_nowhere_are_refused_before_their_table_is_made(refuse: Refuse) -> None:
    # 1,500 servers with a metric each of its own: a few samples, but a table of a million cells.
    result = [
        {"metric": {"__name__": f"m{place}", "instance": str(place)}, "values": [[EPOCH + place, "1"]]}
        for place in range(1500)
    ]
    assert refuse(answer(result), "prometheus", ReadLimits(max_cells=1_000_000)).code == "too_many_rows"


def test_no_damage_to_an_export_escapes_as_anything_but_a_problem(write: Write) -> None:
    rng = np.random.default_rng(0)
    for kind, export in EXPORTS.items():
        whole = export(fleet(2, 10)).encode()
        outcomes = set()
        for place in rng.integers(0, len(whole), 40):
            damaged = bytearray(whole)
            damaged[place] = rng.integers(256)
            outcomes.add(outcome(write(bytes(damaged)), kind))
        assert "unreadable_file" in outcomes, kind


def outcome(path: Any, kind: Any) -> str:
    try:
        inspect(path, kind, DatasetMapping())
    except DatasetError as error:
        return error.problem.code
    return "read"
