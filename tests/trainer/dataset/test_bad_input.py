"""Bad input of every known kind: each is handled and reported, or refused with its series and row."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.trainer.dataset.samples import as_csv, finding_of, fleet, stamp
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping
from trainer.errors import InvalidDataset
from trainer.prepare import prepare
from trainer.recipe import DatasetFile, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.trainer.dataset.conftest import Describe, Refuse

STEP = timedelta(minutes=5)
Rows = list[dict[str, Any]]


@pytest.fixture
def ready(tmp_path: Path, make_spec: Callable[..., Any], plain_cpu: Any) -> Callable[..., Any]:
    """Write rows as CSV, inspect and prepare them; keyword arguments change the spec."""

    def run(rows: Rows, **changes: Any) -> Any:
        path, mapping = tmp_path / "data.csv", DatasetMapping(group_columns=["server"])
        path.write_text(as_csv(rows))
        data = DatasetFile(path, "csv", mapping, inspect(path, "csv", mapping))
        return prepare(make_spec(known_covariates=[], **changes), data, plain_cpu)

    return run


def spoilt(value: object, *places: int, servers: int = 2, steps: int = 60, **columns: Any) -> Rows:
    """A fleet with one value of cpu_percent replaced at these rows."""
    rows = [row | columns for row in fleet(servers, steps)]
    for place in places:
        rows[place]["cpu_percent"] = value
    return rows


@pytest.mark.parametrize(
    ("value", "shown"), [("NaN", "missing"), ("", "missing"), ("inf", "inf"), ("-inf", "-inf")]
)
def test_a_value_that_is_no_number_is_counted_filled_and_never_reaches_the_network(
    ready: Any, value: str, shown: str
) -> None:
    run = ready(spoilt(value, 10, 30, 31, 32, 33, 34))
    finding = finding_of(run.data.schema, "missing_values")
    filled = next(f for f in run.series.findings if f.code == "missing_values")

    assert (finding.row_count, finding.series_count) == (6, 1)
    assert finding.examples[0] == {"series": "a", "row": 11, "column": "cpu_percent", "value": shown}
    assert filled.detail == "cpu_percent: 1 steps interpolated, 5 masked."
    assert np.isfinite(run.series.values["cpu_percent"]).all()
    assert not run.series.observed["cpu_percent"][30:35].any()
    for x, (actual, _) in run.train_batches:
        assert x["encoder_cont"].isfinite().all()
        assert actual.isfinite().all()


@pytest.mark.parametrize("value", ["1.7976931348623157e308", "-1e39", "3.4e38"])
def test_a_number_that_float32_cannot_reckon_with_is_missing_and_shown_as_it_is(
    ready: Any, value: str
) -> None:
    run = ready(spoilt(value, 10))
    finding = finding_of(run.data.schema, "missing_values")

    assert finding.detail == "cpu_percent: 1 values missing, 1 of them beyond 1e+30."
    assert finding.examples[0]["value"] == float(value)
    assert run.data.schema.columns[2].maximum < 100
    assert run.series.values["cpu_percent"][10] < 100
    for batch in run.train_batches:
        assert run.model.training_step(batch, 0).isfinite()


def test_nothing_but_missing_values_is_refused(ready: Any) -> None:
    with pytest.raises(InvalidDataset, match="'memory_percent'"):
        ready(spoilt(None, memory_percent=None), target_metrics=["memory_percent"])


def test_a_target_that_ends_before_the_training_does_is_refused_by_name(ready: Any) -> None:
    rows = [
        row | {"disk_percent": 50.0 if place % 60 > 55 else None} for place, row in enumerate(fleet(2, 60))
    ]
    with pytest.raises(InvalidDataset, match="'disk_percent' has no observed value in the training part"):
        ready(rows, target_metrics=["cpu_percent", "disk_percent"])


def test_constant_columns_are_named_with_their_value_and_have_a_scale(ready: Any) -> None:
    run = ready(spoilt(71.5, *range(60)), normalizer="window_standard")
    finding = finding_of(run.data.schema, "constant")

    assert (finding.series_count, finding.row_count) == (1, 60)
    assert finding.examples == [{"series": "a", "column": "cpu_percent", "value": 71.5}]
    assert all((x["target_scale"][:, 1] > 1e-3).all() for x, _ in run.train_batches)


def test_a_fleet_that_stands_still_altogether_is_trained_on_without_an_explosion(ready: Any) -> None:
    run = ready(spoilt(71.5, *range(120)))
    losses = [run.model.training_step(batch, 0).detach() for batch in run.train_batches]

    assert finding_of(run.data.schema, "constant").series_count == 2
    assert all(loss.isfinite() for loss in losses)
    assert max(float(loss) for loss in losses) < 10


def test_a_server_with_three_rows_is_named_and_left_out(ready: Any) -> None:
    rows = [row for row in fleet(3, 60) if row["server"] != "b" or row["timestamp"] < stamp(3)]
    run = ready(rows)

    assert {"series": "b", "steps": 3} in finding_of(run.data.schema, "too_short").examples
    assert any("too short and left out: b (3 steps)" in warning.message for warning in run.warnings)
    assert run.split.usable.tolist() == [True, False, True]


def test_nothing_but_three_rows_is_refused_with_what_is_needed(ready: Any) -> None:
    with pytest.raises(
        InvalidDataset, match=r"need at least 15 steps, the longest series has 3 \(a \(3 steps\)"
    ):
        ready(fleet(1, 3))


def test_duplicate_stamps_are_counted_and_the_last_row_wins(ready: Any) -> None:
    rows = fleet(2, 60)
    run = ready([*rows, rows[3] | {"cpu_percent": 99.0}, rows[70] | {"cpu_percent": 98.0}])
    finding = next(f for f in run.series.findings if f.code == "duplicates")

    assert (finding.row_count, finding.series_count) == (2, 2)
    assert finding.examples[0] == {"series": "a", "row": 4, "time": stamp(3)}
    assert run.series.values["cpu_percent"][[3, 70]].tolist() == [99.0, 98.0]


def test_rows_that_are_mostly_duplicates_are_refused(refuse: Refuse) -> None:
    problem = refuse([row for row in fleet(1, 30) for _ in range(3)], group_columns=["server"])
    assert problem.code == "duplicate_rows"
    assert "60 of 90 rows repeat a time stamp within server" in problem.detail


def test_time_that_goes_backwards_is_counted_and_sorted(ready: Any) -> None:
    rows = fleet(2, 60)
    run = ready([*rows[30:60], *rows[:30], *rows[60:][::-1]])
    finding = next(f for f in run.series.findings if f.code == "unordered")
    values = run.series.values["cpu_percent"]

    assert (finding.row_count, finding.series_count) == (1 + 59, 2)
    assert finding.examples[0] == {"series": "a", "row": 31, "time": stamp(0)}
    assert values.tolist() == [row["cpu_percent"] for row in rows]


def local_rows(start: datetime, offset_at: Callable[[datetime], int], form: str) -> Rows:
    """A day and a half of one server, written in local time."""
    rows = []
    for place in range(432):
        moment = (start + place * STEP).astimezone(timezone(timedelta(hours=offset_at(start + place * STEP))))
        rows.append(
            {"timestamp": moment.strftime(form), "server": "a", "cpu_percent": place % 40 + place / 1000}
        )
    return rows


AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC)  # three o'clock becomes two
SPRING = datetime(2026, 3, 29, 1, tzinfo=UTC)  # two o'clock becomes three


def autumn(moment: datetime) -> int:
    return 2 if moment < AUTUMN else 1


def spring(moment: datetime) -> int:
    return 1 if moment < SPRING else 2


def test_local_stamps_with_an_hour_twice_are_reported_row_by_row(ready: Any) -> None:
    run = ready(local_rows(AUTUMN - timedelta(hours=12), autumn, "%Y-%m-%d %H:%M:%S"))
    codes = {finding.code: finding for finding in run.series.findings}

    assert codes["duplicates"].row_count == 12
    assert codes["duplicates"].examples[0] == {
        "series": "a",
        "row": 145 - 12,
        "time": "2026-10-25T02:00:00+00:00",
    }
    assert codes["unordered"].examples == [{"series": "a", "row": 145, "time": "2026-10-25T02:00:00+00:00"}]
    assert run.series.lengths.tolist() == [432 - 12]


def test_local_stamps_with_an_hour_missing_are_a_gap_that_carries_no_loss(ready: Any) -> None:
    run = ready(local_rows(SPRING - timedelta(hours=12), spring, "%Y-%m-%d %H:%M:%S"))
    gap = next(finding for finding in run.series.findings if finding.code == "gaps")

    assert (gap.row_count, gap.series_count) == (12, 1)
    assert gap.examples == [{"series": "a", "after": "2026-03-29T01:55:00+00:00", "steps": 12}]
    assert run.series.lengths.tolist() == [432 + 12]
    assert int((~run.series.observed["cpu_percent"]).sum()) == 12


@pytest.mark.parametrize(("change", "offset"), [(AUTUMN, autumn), (SPRING, spring)], ids=["autumn", "spring"])
def test_stamps_with_their_offset_jump_nowhere(
    ready: Any, change: datetime, offset: Callable[[datetime], int]
) -> None:
    run = ready(local_rows(change - timedelta(hours=12), offset, "%Y-%m-%dT%H:%M:%S%z"))

    assert {finding.code for finding in run.series.findings} == set()
    assert run.series.lengths.tolist() == [432]
    assert run.data.schema.starts_at == change - timedelta(hours=12)


def test_values_out_of_their_range_are_reported_and_kept_as_they_are(ready: Any) -> None:
    rows = [row | {"load_average": 1.5} for row in fleet(2, 60)]
    rows[4]["cpu_percent"], rows[65]["cpu_percent"], rows[6]["load_average"] = 130.0, -1.0, -0.5
    run = ready(rows, target_metrics=["cpu_percent", "load_average"])
    finding = finding_of(run.data.schema, "out_of_range")

    assert (finding.row_count, finding.series_count) == (3, 2)
    assert finding.detail == "cpu_percent: 2 values outside 0 to 100; load_average: 1 values negative."
    assert {"series": "a", "row": 5, "column": "cpu_percent", "value": 130.0} in finding.examples
    assert {"series": "a", "row": 7, "column": "load_average", "value": -0.5} in finding.examples
    assert run.series.values["cpu_percent"][[4, 65]].tolist() == [130.0, -1.0]


@pytest.mark.parametrize("seconds", [30, 60, 240, 360, 400, 450, 600, 3600])
@pytest.mark.parametrize("jitter", [0.0, 15.0], ids=["exact", "jittering"])
def test_a_frequency_that_changes_half_way_is_refused_with_its_series_and_row(
    refuse: Refuse, seconds: int, jitter: float
) -> None:
    """Also by less than a jitter may be: 300 s that become 360 s are no jitter."""
    noise = np.random.default_rng(3).uniform(-jitter, jitter, 400) * min(seconds, 300) / 300
    times = np.cumsum([0, *[300] * 199, *[seconds] * 200]) + noise
    rows = [
        {"timestamp": stamp(0, offset=float(at)), "server": "vm-7", "cpu_percent": place % 9}
        for place, at in enumerate(times)
    ]
    problem = refuse(rows, group_columns=["server"])

    assert problem.code == "irregular_frequency"
    assert "'vm-7'" in problem.detail
    assert problem.row is not None
    assert f"row {problem.row}" in problem.detail
    if not jitter:
        assert abs(problem.row - 201) <= 20
        assert f"{seconds:,} s (50%)" in problem.detail


def test_a_fleet_of_two_frequencies_is_refused(refuse: Refuse) -> None:
    rows = [
        {"timestamp": stamp(step, seconds=seconds), "server": f"{seconds}", "cpu_percent": step % 9}
        for seconds in (300, 360)
        for step in range(100)
    ]
    problem = refuse(rows, group_columns=["server"])
    assert (problem.code, problem.row) == ("irregular_frequency", 102)
    assert "'360'" in problem.detail


@pytest.mark.parametrize("jitter", [0.0, 20.0, 35.0])
def test_jitter_and_outages_are_no_change_of_frequency(describe: Describe, jitter: float) -> None:
    random = np.random.default_rng(2)
    kept = np.flatnonzero(random.random(600) > 0.15)
    times = kept * 300 + random.uniform(-jitter, jitter, len(kept))
    rows = [
        {"timestamp": stamp(0, offset=float(at)), "server": "a", "cpu_percent": place % 9}
        for place, at in enumerate(times)
    ]
    schema = describe(rows)
    assert schema.frequency_seconds == 300
    assert finding_of(schema, "gaps").row_count == pytest.approx(600 - len(kept), abs=4)


def test_one_server_of_many_at_half_the_pace_is_reported_as_gaps(describe: Describe) -> None:
    rows = [row for row in fleet(25, 100) if row["server"] != "c" or int(row["timestamp"][14:16]) % 10 == 0]
    finding = finding_of(describe(rows), "gaps")
    assert (finding.series_count, finding.examples[0]["series"]) == (1, "c")
    assert finding.row_count == 49


@pytest.mark.slow
def test_ten_thousand_servers_with_a_hundred_rows_are_ready_in_seconds(
    tmp_path: Path, make_spec: Callable[..., Any], plain_cpu: Any
) -> None:
    servers, steps, random = 10_000, 100, np.random.default_rng(0)
    path, mapping = tmp_path / "data.parquet", DatasetMapping()
    stamps = 1_700_000_100_000_000 + np.tile(np.arange(steps) * 300_000_000, servers)
    table = {
        "timestamp": pa.array(stamps, pa.timestamp("us", "UTC")),
        "server": np.repeat([f"vm-{place:05d}" for place in range(servers)], steps),
        "cpu_percent": random.uniform(0, 100, servers * steps),
    }
    pq.write_table(pa.table(table), path)
    began = time.process_time()
    data = DatasetFile(path, "parquet", mapping, inspect(path, "parquet", mapping))
    inspected = time.process_time() - began
    run = prepare(make_spec(encoder_length=48, horizon=12), data, plain_cpu)
    x, _ = next(iter(run.train_batches))

    assert data.schema.series_count == servers
    assert len(run.scaling.series) == servers
    assert x["encoder_cont"].isfinite().all()
    assert inspected < 10
    assert time.process_time() - began < 30


def dirty_fleet() -> Rows:
    """Everything on the list that can be handled, in one file of 12 servers."""
    rows = [
        row | {"load_average": row["cpu_percent"] / 10, "disk_percent": 71.5, "rack": "r1", "temp": 40}
        for row in fleet(12, 60)
    ]
    rows[5]["cpu_percent"], rows[8]["cpu_percent"] = "NaN", "inf"
    rows[70]["cpu_percent"], rows[71]["load_average"] = 130.0, -0.5
    rows[75]["temp"] = "broken"
    rows[130], rows[140] = rows[140], rows[130]
    rows[200]["timestamp"] = stamp(20, offset=40)
    rows.append(rows[250] | {"cpu_percent": 1.0})
    gone = set(range(310, 318)) | {365}
    last = rows[-2]["server"]
    kept = [row for place, row in enumerate(rows) if place not in gone]
    return [row for row in kept if row["server"] != last or row["timestamp"] < stamp(3)]


@pytest.fixture(scope="module")
def dirty_result(
    tmp_path_factory: pytest.TempPathFactory,
    make_spec: Callable[..., Any],
    make_observer: Callable[[], Any],
    plain_cpu: Any,
) -> dict[str, Any]:
    """The result.json of a training on the dirty fleet."""
    folder, mapping = tmp_path_factory.mktemp("dirty"), DatasetMapping(group_columns=["server"])
    path = folder / "data.csv"
    path.write_text(as_csv(dirty_fleet()))
    data = DatasetFile(path, "csv", mapping, inspect(path, "csv", mapping))
    spec = make_spec(target_metrics=["cpu_percent", "load_average", "disk_percent"])
    train(spec, data, folder / "out", make_observer(), hardware=plain_cpu)
    return dict(json.loads((folder / "out" / "result.json").read_text()))


def reported(result: dict[str, Any], code: str) -> dict[str, Any]:
    """The findings of one code as one."""
    found = [finding for finding in result["findings"] if finding["code"] == code]
    assert found, f"{code} is not among {sorted(finding['code'] for finding in result['findings'])}"
    return {
        "rows": found[0]["row_count"],
        "series": found[0]["series_count"],
        "first": found[0]["examples"][0],
    }


@pytest.mark.slow
def test_a_dirty_fleet_trains_and_its_clock_is_reported_in_the_result(dirty_result: dict[str, Any]) -> None:
    assert reported(dirty_result, "duplicates") == {
        "rows": 1,
        "series": 1,
        "first": {"series": "e", "row": 251, "time": stamp(10)},
    }
    assert reported(dirty_result, "unordered")["series"] == 2  # the late duplicate counts too
    assert reported(dirty_result, "unaligned")["first"]["offset_seconds"] == 40.0
    assert reported(dirty_result, "gaps")["rows"] == 9
    assert reported(dirty_result, "too_short")["series"] == 12  # than a default window of 120 steps
    assert any("left out: l (3 steps)" in warning for warning in dirty_result["warnings"])
    assert all(target["model"]["q_risk"] is not None for target in dirty_result["scores"]["targets"].values())


@pytest.mark.slow
def test_a_dirty_fleets_values_are_reported_in_the_result(dirty_result: dict[str, Any]) -> None:
    assert reported(dirty_result, "missing_values")["rows"] > 0
    assert reported(dirty_result, "constant")["first"] == {
        "series": "a",
        "column": "disk_percent",
        "value": 71.5,
    }
    assert reported(dirty_result, "out_of_range")["rows"] == 2
    assert reported(dirty_result, "mixed_values")["first"]["value"] == "broken"
