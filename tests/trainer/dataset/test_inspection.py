from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.trainer.dataset.samples import START, as_csv, finding_of, fleet, stamp
from trainer.dataset.limits import ReadLimits
from trainer.dataset.schema import DatasetSchema

if TYPE_CHECKING:
    from tests.trainer.dataset.conftest import Describe, Refuse, Write


def single(steps: list[float], *, seconds: int = 300) -> list[dict[str, Any]]:
    """One series with rows at these steps, fractions allowed."""
    return [
        {"timestamp": stamp(0, offset=step * seconds), "cpu_percent": float(place % 9)}
        for place, step in enumerate(steps)
    ]


def test_a_clean_fleet_has_a_full_schema_and_no_finding_but_its_shortness(describe: Describe) -> None:
    schema = describe(fleet(servers=3, steps=40))
    assert (schema.row_count, schema.series_count) == (120, 3)
    assert schema.series_lengths == {"min": 40, "median": 40, "max": 40}
    assert (schema.starts_at, schema.ends_at) == (START, START + timedelta(minutes=5 * 39))
    assert [(column.name, column.type) for column in schema.columns] == [
        ("timestamp", "time"),
        ("server", "text"),
        ("cpu_percent", "numeric"),
    ]
    assert [finding.code for finding in schema.findings] == ["too_short"]


def test_figures_leave_out_what_is_not_finite(describe: Describe) -> None:
    rows = fleet(1, 6)
    for row, value in zip(rows, [1, 2, None, "inf", "NaN", 6], strict=True):
        row["cpu_percent"] = value
    schema = describe(rows, columns={"cpu_percent": {"unit": "percent"}})
    column = schema.columns[2]
    assert (column.missing_count, column.minimum, column.maximum, column.mean) == (3, 1.0, 6.0, 3.0)
    assert column.unit == "percent"
    finding = finding_of(schema, "missing_values")
    assert finding.row_count == 3
    assert "1 of them infinite" in finding.detail
    assert [example["value"] for example in finding.examples] == ["missing", "inf", "missing"]


def test_a_file_without_numbers_is_refused(refuse: Refuse) -> None:
    rows = [{"timestamp": stamp(step), "server": "a", "state": "ok"} for step in range(5)]
    assert refuse(rows).code == "no_numeric_column"
    assert refuse([row | {"state": None} for row in rows]).code == "no_numeric_column"


def test_a_column_spoilt_by_a_few_words_is_pointed_out(describe: Describe) -> None:
    rows = [row | {"memory_percent": 40.0} for row in fleet()]
    rows[11]["memory_percent"] = "error"
    schema = describe(rows)
    assert schema.numeric_columns() == ["cpu_percent"]
    example = finding_of(schema, "mixed_values").examples[0]
    assert (example["column"], example["row"], example["value"]) == ("memory_percent", 12, "error")


def test_gaps_are_counted_in_steps(describe: Describe) -> None:
    rows = fleet(2, 60)
    del rows[90:95]
    del rows[10]
    finding = finding_of(describe(rows), "gaps")
    assert (finding.row_count, finding.series_count) == (6, 2)
    assert finding.examples[0] == {"series": "a", "after": stamp(9), "steps": 1}
    assert finding.examples[1]["steps"] == 5


def test_duplicates_name_the_overruled_rows(describe: Describe) -> None:
    rows = fleet(2, 40)
    rows.append(rows[3] | {"cpu_percent": 99.0})
    finding = finding_of(describe(rows), "duplicates")
    assert (finding.row_count, finding.examples[0]["row"]) == (1, 4)


def test_rows_out_of_order_are_counted_and_sorted(describe: Describe) -> None:
    rows = fleet(1, 40)
    rows[10], rows[20] = rows[20], rows[10]
    schema = describe(rows)
    assert finding_of(schema, "unordered").row_count == 2
    assert schema.series_lengths["max"] == 40
    assert schema.frequency_seconds == 300


def test_interleaved_servers_are_in_order(describe: Describe) -> None:
    rows = sorted(fleet(3, 40), key=lambda row: str(row["timestamp"]))
    assert "unordered" not in {finding.code for finding in describe(rows).findings}


def test_jittering_stamps_are_snapped_to_the_usual_step(describe: Describe) -> None:
    noise = np.random.default_rng(7).uniform(-0.05, 0.05, 200)
    schema = describe(single([place + float(part) for place, part in enumerate(noise)]))
    assert schema.frequency_seconds == 300
    assert schema.series_lengths["max"] == 200
    assert finding_of(schema, "unaligned").row_count == 200


def test_each_server_may_have_its_own_place_in_the_step(describe: Describe) -> None:
    rows = [
        {"timestamp": stamp(step, offset=17 * server), "server": f"s{server}", "cpu_percent": step % 9}
        for server in range(4)
        for step in range(30)
    ]
    assert "unaligned" not in {finding.code for finding in describe(rows).findings}


def test_one_late_stamp_does_not_move_the_grid(describe: Describe) -> None:
    steps = [float(step) for step in range(60)]
    steps[0] += 0.1
    finding = finding_of(describe(single(steps)), "unaligned")
    assert finding.row_count == 1
    assert finding.examples[0]["offset_seconds"] == pytest.approx(30)


def test_a_slow_drift_is_followed_by_the_grid(describe: Describe) -> None:
    schema = describe(single([step * 1.001 for step in range(400)]))
    assert schema.frequency_seconds == pytest.approx(300.3)
    assert schema.series_lengths["max"] == 400


def test_random_outages_are_gaps_and_no_irregular_clock(describe: Describe) -> None:
    kept = np.flatnonzero(np.random.default_rng(3).random(500) > 0.2)
    schema = describe(single([float(step) for step in kept]))
    assert schema.frequency_seconds == 300
    assert finding_of(schema, "gaps").row_count > 50


@pytest.mark.parametrize("factor", [2, 5, 0.2])
def test_a_frequency_that_changes_half_way_is_refused(refuse: Refuse, factor: float) -> None:
    steps = [*range(100), *(100 + factor * step for step in range(100))]
    problem = refuse(single([float(step) for step in steps]))
    assert problem.code == "irregular_frequency"
    assert f"{factor * 300:,.0f} s" in problem.detail
    assert "300 s" in problem.detail


def test_a_given_frequency_wins(describe: Describe) -> None:
    steps = [*range(100), *(100 + 2 * step for step in range(100))]
    schema = describe(single([float(step) for step in steps]), frequency="10min")
    assert schema.frequency_seconds == 600
    assert schema.series_lengths["max"] in {150, 151}
    assert finding_of(schema, "unaligned").row_count >= 50


def test_random_stamps_are_irregular(refuse: Refuse) -> None:
    steps = np.cumsum(np.random.default_rng(5).exponential(1.0, 200))
    assert refuse(single(steps.tolist())).code == "irregular_frequency"


def test_series_of_one_row_have_no_step(refuse: Refuse) -> None:
    assert refuse(fleet(8, 1), group_columns=["server"]).code == "irregular_frequency"


def test_a_stray_stamp_does_not_blow_up_the_grid(refuse: Refuse) -> None:
    rows = [
        *fleet(1, 1000, seconds=1),
        {"timestamp": "1970-01-01T00:00:00Z", "server": "a", "cpu_percent": 1},
    ]
    problem = refuse(rows)
    assert problem.code == "irregular_frequency"
    assert "1970-01-01" in problem.detail


def test_a_grid_over_the_limit_is_refused(refuse: Refuse) -> None:
    problem = refuse(fleet(2, 100), limits=ReadLimits(max_grid_rows=150))
    assert problem.code == "irregular_frequency"


def test_local_time_across_a_switch_to_winter_time_is_reported(describe: Describe) -> None:
    utc = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(minutes=5 * step) for step in range(200)]
    shown = [
        moment + timedelta(hours=2 if moment.hour == 22 or moment.day == 24 or moment.hour < 1 else 1)
        for moment in utc
    ]
    rows = [
        {"timestamp": f"{moment:%Y-%m-%d %H:%M}", "cpu_percent": place % 9}
        for place, moment in enumerate(shown)
    ]
    schema = describe(rows)
    assert finding_of(schema, "duplicates").row_count == 12
    assert finding_of(schema, "unordered").row_count == 1


def test_values_out_of_range_are_found_by_name_and_by_unit(describe: Describe) -> None:
    rows = [
        row | {"load_average": 1.0 + row["cpu_percent"], "usage": 5.0, "net": -3.0} for row in fleet(2, 40)
    ]
    rows[4]["cpu_percent"] = 130.0
    rows[50]["cpu_percent"] = -1.0
    rows[6]["load_average"] = -0.5
    rows[7]["usage"] = 101.0
    finding = finding_of(describe(rows, columns={"usage": {"unit": "percent"}}), "out_of_range")
    assert (finding.row_count, finding.series_count) == (4, 2)
    assert {example["column"] for example in finding.examples} == {"cpu_percent", "load_average", "usage"}
    assert finding.examples[0] == {"series": "a", "row": 5, "column": "cpu_percent", "value": 130.0}


def test_flat_columns_are_found_per_series(describe: Describe) -> None:
    rows = [
        row | {"disk_percent": 71.5 if row["server"] == "a" else row["cpu_percent"]} for row in fleet(2, 40)
    ]
    finding = finding_of(describe(rows), "constant")
    assert (finding.series_count, finding.row_count) == (1, 40)
    assert finding.examples == [{"series": "a", "column": "disk_percent", "value": 71.5}]


def test_examples_stop_at_five(describe: Describe) -> None:
    rows = fleet(1, 200)
    for row in rows[:50]:
        row["cpu_percent"] = None
    finding = finding_of(describe(rows), "missing_values")
    assert (finding.row_count, len(finding.examples)) == (50, 5)


def test_series_shorter_than_a_default_window_are_listed(describe: Describe) -> None:
    rows = [row for row in fleet(2, 130) if row["server"] == "a" or row["timestamp"] < stamp(3)]
    finding = finding_of(describe(rows), "too_short")
    assert finding.examples == [{"series": "b", "steps": 3}]


def test_ten_thousand_servers_take_no_loop_over_rows(describe: Describe) -> None:
    stamps = [stamp(step) for step in range(20)]
    lines = [
        f"{moment},vm-{server},{server % 80 + place}"
        for server in range(10_000)
        for place, moment in enumerate(stamps)
    ]
    schema = describe("timestamp,server,cpu_percent\n" + "\n".join(lines))
    assert (schema.series_count, schema.row_count) == (10_000, 200_000)


def run_child(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "trainer.dataset", "inspect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_child_prints_the_schema_and_ends_with_0(write: Write) -> None:
    mapping = '{"columns": {"cpu_percent": {"name": "cpu"}}}'
    done = run_child(str(write(as_csv(fleet()))), "--format", "csv", "--mapping", mapping)
    assert done.returncode == 0, done.stderr
    schema = DatasetSchema.model_validate(json.loads(done.stdout)["schema"])
    assert schema.numeric_columns() == ["cpu"]


def test_the_child_prints_the_problem_and_ends_with_2(write: Write) -> None:
    done = run_child(str(write("a,b\n1,2\n")), "--format", "csv")
    assert done.returncode == 2
    assert json.loads(done.stdout)["problem"]["code"] == "no_time_column"
    assert done.stderr == ""


SHORT_OF_MEMORY = """
import os, resource, sys
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
from pathlib import Path
from trainer.dataset import __main__ as child
import numpy, trainer.dataset.inspection
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 80 * 2**20, resource.RLIM_INFINITY))
sys.exit(child.main(["inspect", sys.argv[1], "--format", "ndjson"]))
"""


def test_the_child_names_a_lack_of_memory(write: Write) -> None:
    lines = (f'{{"time": {place * 60}, "note": "{"x" * 1000}{place}", "cpu": 1}}' for place in range(100_000))
    path = write("\n".join(lines))
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["problem"]["code"] == "out_of_memory"
