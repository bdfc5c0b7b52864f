"""Long tables, wide tables and exporters' own names become a row per server and stamp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from tests.trainer.dataset.monitoring import answer, as_influx
from tests.trainer.dataset.samples import START, as_csv, fleet, stamp
from trainer.dataset.reading import ignored_columns, read_table
from trainer.dataset.schema import DatasetMapping

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse, Write
    from tests.trainer.dataset.samples import Rows

EPOCH = int(START.timestamp())
LONG = {"metric_column": "metric", "value_column": "value"}


def two_metrics() -> Rows:
    return [{**row, "memory_percent": row["cpu_percent"] / 2, "zone": "eu"} for row in fleet(3, 40)]


def as_long(rows: Rows) -> Rows:
    return [
        {
            "timestamp": row["timestamp"],
            "server": row["server"],
            "metric": name,
            "value": row[name],
            "zone": row["zone"],
        }
        for row in rows
        for name in ("cpu_percent", "memory_percent")
    ]


def as_wide(rows: Rows, separator: str) -> Rows:
    stamps: dict[str, dict[str, Any]] = {}
    for row in rows:
        columns = stamps.setdefault(row["timestamp"], {"timestamp": row["timestamp"]})
        for name in ("cpu_percent", "memory_percent"):
            columns[f"{row['server']}{separator}{name}"] = row[name]
    return list(stamps.values())


def same_dataset(describe: Describe, rows: Rows, reshaped: Rows, **mapping: Any) -> bool:
    ours, theirs = describe(reshaped, **mapping).model_dump(), describe(rows).model_dump()
    columns = [{column["name"]: column for column in each.pop("columns")} for each in (ours, theirs)]
    return bool(ours == theirs and columns[0] == columns[1])


def test_a_long_table_is_the_dataset_of_its_usual_form(describe: Describe) -> None:
    rows = two_metrics()
    assert same_dataset(describe, rows, as_long(rows), long=LONG)
    assert same_dataset(describe, rows, as_long(rows), long=LONG, group_columns=["server"])


def test_a_wide_table_is_the_dataset_of_its_usual_form(describe: Describe) -> None:
    rows = two_metrics()
    without_zone = [{name: value for name, value in row.items() if name != "zone"} for row in rows]
    wide = {"separator": "."}
    assert same_dataset(describe, without_zone, as_wide(rows, "."), wide=wide)
    one_metric = [
        {name.removesuffix(".cpu_percent"): value for name, value in row.items() if "memory" not in name}
        for row in as_wide(rows, ".")
    ]
    assert same_dataset(describe, fleet(3, 40), one_metric, wide={"metric": "cpu_percent"})


@pytest.mark.parametrize("mapping", [{"long": LONG, "wide": {"metric": "cpu"}}, {"wide": {}}])
def test_a_mapping_has_one_whole_shape(mapping: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatasetMapping(**mapping)


@pytest.mark.parametrize(
    ("mapping", "code", "column"),
    [
        ({"long": {"metric_column": "name", "value_column": "value"}}, "unknown_column", "name"),
        ({"long": {"metric_column": "value", "value_column": "metric"}}, "bad_mapping", "metric"),
        ({"wide": {"separator": "#"}}, "bad_mapping", None),
        ({"preset": "telegraf"}, "bad_mapping", None),
    ],
)
def test_a_shape_that_the_table_does_not_have_is_refused(
    refuse: Refuse, mapping: dict[str, Any], code: str, column: str | None
) -> None:
    problem = refuse(as_long(two_metrics()), **mapping)
    assert (problem.code, problem.column) == (code, column)


def test_labels_of_an_export_are_no_long_table(refuse: Refuse) -> None:
    assert refuse(as_influx(fleet()), "influx", long=LONG).code == "bad_mapping"


def exported(metric: str, numbers: list[float], **labels: str) -> dict[str, Any]:
    samples = [[EPOCH + 15 * step, str(number)] for step, number in enumerate(numbers)]
    return {"metric": {"__name__": metric, "instance": "a:9100", "job": "node", **labels}, "values": samples}


def test_node_exporter_s_counters_and_sizes_become_percentages(write: Write) -> None:
    # Two cores, idle for 9 and 3 of 15 seconds, then for 15 and 15; the counter of the second begins anew.
    series = [
        exported("node_cpu_seconds_total", [100, 109, 124], cpu="0", mode="idle"),
        exported("node_cpu_seconds_total", [500, 503, 15], cpu="1", mode="idle"),
        exported("node_cpu_seconds_total", [7, 13, 13], cpu="0", mode="user"),
        exported("node_memory_MemAvailable_bytes", [4e9, 2e9, 1e9]),
        exported("node_memory_MemTotal_bytes", [8e9, 8e9, 8e9]),
        exported("node_filesystem_avail_bytes", [10, 10, 5], mountpoint="/", device="sda1", fstype="ext4"),
        exported("node_filesystem_size_bytes", [100, 100, 100], mountpoint="/", device="sda1", fstype="ext4"),
        exported("node_filesystem_avail_bytes", [1, 1, 1], mountpoint="/run", device="tmpfs", fstype="tmpfs"),
        exported(
            "node_filesystem_size_bytes", [100, 100, 100], mountpoint="/run", device="tmpfs", fstype="tmpfs"
        ),
        exported("node_load1", [0.5, 0.75, 1.0]),
        exported("node_network_receive_bytes_total", [0, 150, 300], device="eth0"),
        exported("node_network_receive_bytes_total", [0, 1500, 3000], device="eth1"),
        exported("node_network_receive_bytes_total", [0, 9e9, 9e9], device="lo"),
        exported("node_boot_time_seconds", [1, 1, 1]),
    ]
    table = read_table(write(answer(series)), "prometheus", DatasetMapping(preset="node_exporter"))
    found = {name: table[name].to_pylist() for name in table.column_names}
    assert found["cpu_percent"] == [None, pytest.approx(60.0), pytest.approx(0.0)]
    assert found["memory_percent"] == [50.0, 75.0, 87.5]
    assert found["disk_percent"] == [pytest.approx(90.0), pytest.approx(90.0), pytest.approx(95.0)]
    assert found["load_average"] == [0.5, 0.75, 1.0]
    assert found["net_in"] == [None, 110.0, 110.0]
    assert found["node_boot_time_seconds"] == [1.0, 1.0, 1.0]
    assert not any(name.startswith("node_cpu") for name in found)
    assert found["instance"] == ["a:9100"] * 3


def test_telegraf_s_line_protocol_becomes_percentages(write: Write) -> None:
    def lines(step: int) -> str:
        stamp = f"{EPOCH + 10 * step}000000000\n"
        return (
            f"cpu,cpu=cpu0,host=a usage_idle=10 {stamp}"
            f"cpu,cpu=cpu-total,host=a usage_idle=40,usage_user=50 {stamp}"
            f"mem,host=a used_percent=25.5 {stamp}system,host=a load1=0.5 {stamp}"
            f"disk,host=a,path=/ used_percent=70 {stamp}disk,host=a,path=/boot used_percent=99 {stamp}"
            f"net,host=a,interface=eth0 bytes_recv={step * 1000}i {stamp}"
        )

    table = read_table(
        write("".join(lines(step) for step in range(3))), "influx", DatasetMapping(preset="telegraf")
    )
    row = {name: table[name][2].as_py() for name in table.column_names if name != "timestamp"}
    assert row == {
        "host": "a",
        "cpu_percent": 60.0,
        "memory_percent": 25.5,
        "disk_percent": 70.0,
        "load_average": 0.5,
        "net_in": 100.0,
        "cpu_usage_user": 50.0,
    }


def test_cloudwatch_s_names_in_a_table_get_ours_with_their_units(describe: Describe) -> None:
    rows = [
        {"timestamp": row["timestamp"], "InstanceId": row["server"], "CPUUtilization": row["cpu_percent"]}
        for row in fleet()
    ]
    schema = describe(rows, preset="cloudwatch", columns={"cpu_percent": {"name": "cpu"}})
    assert {column.name: column.unit for column in schema.columns if column.type == "numeric"} == {"cpu": "%"}
    assert schema.group_columns == ["InstanceId"]


def test_a_preset_leaves_alone_what_has_its_names_already(describe: Describe) -> None:
    assert same_dataset_but_units(describe, fleet(), preset="node_exporter")


def same_dataset_but_units(describe: Describe, rows: Rows, **mapping: Any) -> bool:
    plain, preset = describe(rows), describe(rows, **mapping)
    return plain.model_dump(exclude={"columns"}) == preset.model_dump(exclude={"columns"})


def test_columns_that_no_shape_reads_are_named(write: Write) -> None:
    rows = [{"timestamp": stamp(step), "a": 1.5 + step, "note": "x"} for step in range(5)]
    mapping = DatasetMapping(wide={"metric": "cpu_percent"})
    table = read_table(write(as_csv(rows)), "csv", mapping)
    assert ignored_columns(table) == ["note"]
