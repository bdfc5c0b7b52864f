"""`foretrain predict` as a person runs it, on what a tiny training left.

Once in a process of its own; then in ours, which need not load torch again for each forecast.
"""

from __future__ import annotations

import contextlib
import csv
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from foretrain.cli import app
from tests.trainer.dataset.monitoring import as_prometheus

pytestmark = pytest.mark.slow

TINY = [
    *("--target", "cpu_percent", "--target", "memory_percent", "--hidden-size", "8", "--epochs", "1"),
    *("--hidden-continuous-size", "4", "--attention-head-size", "2", "--encoder-length", "12"),
    *("--horizon", "4", "--batch-size", "16", "--max-train-windows", "32", "--threads", "1"),
    *("--quantiles", "0.1,0.5,0.9", "--out", "trained"),
]
START = datetime(2026, 1, 1, tzinfo=UTC)
QUANTILES = ["q0.1", "q0.5", "q0.9"]


def write_metrics(path: Path, servers: dict[str, int], minutes: int = 10) -> None:
    lines = ["timestamp,server,cpu_percent,memory_percent"]
    for number, (server, steps) in enumerate(servers.items()):
        for step in range(steps):
            cpu = 40 + 20 * math.sin(step / 12) + (step * 7 + number) % 5
            stamp = (START + timedelta(minutes=minutes * step)).isoformat()
            lines.append(f"{stamp},{server},{cpu},{60 - cpu / 3}")
    path.write_text("\n".join(lines) + "\n")


def foretrain(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "foretrain", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def predict(folder: Path, *arguments: str) -> Result:
    """`foretrain predict`, one thread, in our own process."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(app, ["predict", *arguments, "--threads", "1"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a model in `trained`, and `recent.csv` to forecast from."""
    place = tmp_path_factory.mktemp("predict")
    write_metrics(place / "metrics.csv", {"web-0": 120, "web-1": 120})
    write_metrics(place / "recent.csv", {"web-0": 130, "web-9": 40, "tiny": 3})
    shown = foretrain(place, "train", "metrics.csv", *TINY)
    assert shown.returncode == 0, shown.stderr
    return place


def test_known_and_new_servers_are_forecast_behind_their_last_row(folder: Path) -> None:
    shown = foretrain(folder, "predict", "trained", "recent.csv", "--out", "ahead.csv", "--threads", "1")

    assert shown.returncode == 0, shown.stderr
    assert "2 series (1 new to the model), 4 steps of cpu_percent, memory_percent in" in shown.stdout
    assert "1 series are too short and left out: tiny (3 of the 12 steps" in shown.stderr
    with (folder / "ahead.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["server", "timestamp", "target", "known", *QUANTILES]
    assert len(rows) == 2 * 2 * 4
    first = {row["server"]: row for row in reversed(rows)}
    assert {name: row["known"] for name, row in first.items()} == {"web-0": "true", "web-9": "false"}
    assert first["web-0"]["timestamp"] == "2026-01-01T21:40:00Z"
    assert first["web-9"]["timestamp"] == "2026-01-01T06:40:00Z"
    assert all(float(row["q0.1"]) <= float(row["q0.5"]) <= float(row["q0.9"]) for row in rows)


def test_an_export_is_forecast_from_as_the_table_of_the_same_numbers(folder: Path) -> None:
    with (folder / "recent.csv").open() as table:
        rows = [
            row | {name: float(row[name]) for name in ("cpu_percent", "memory_percent")}
            for row in csv.DictReader(table)
        ]
    (folder / "recent.json").write_text(as_prometheus(rows))
    for source in ("recent.csv", "recent.json"):
        out = f"from-{source}.csv"
        shown = predict(folder, "trained", source, "--out", out)
        assert shown.exit_code == 0, shown.stderr
    assert (folder / "from-recent.json.csv").read_text() == (folder / "from-recent.csv.csv").read_text()


def test_parquet_holds_the_same_as_csv_and_is_only_overwritten_by_force(folder: Path) -> None:
    (folder / "ahead.parquet").write_text("something of mine")
    refused = predict(folder, "trained", "recent.csv", "--out", "ahead.parquet")
    assert refused.exit_code == 2
    assert "ahead.parquet is there already; --force overwrites it" in refused.stderr
    assert (folder / "ahead.parquet").read_text() == "something of mine"

    for name in ("ahead.parquet", "same.csv"):
        shown = predict(folder, "trained", "recent.csv", "--out", name, "--force")
        assert shown.exit_code == 0, shown.stderr
    frame = pq.read_table(folder / "ahead.parquet").to_pandas()
    with (folder / "same.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert frame["server"].tolist() == [row["server"] for row in rows]
    for name in QUANTILES:
        assert frame[name].tolist() == pytest.approx([float(row[name]) for row in rows], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([".", "recent.csv", "--out", "x.csv"], "is no trained model: it lacks model.safetensors"),
        (["trained", "nowhere.csv", "--out", "x.csv"], "there is no file nowhere.csv"),
        (["trained", "recent.csv", "--out", "x.txt"], "has none of the endings .csv, .parquet"),
        (["trained", "recent.csv", "--out", "no/x.csv"], "there is no folder no"),
        (["trained", "hourly.csv", "--out", "x.csv"], "every 3600 s here, every 600 s in the data"),
        (["trained", "recent.csv", "--frequency", "1h", "--out", "x.csv"], "every 3600 s here"),
        (["trained", "short.csv", "--out", "x.csv"], "no series can be forecast; each needs 12 steps"),
        (["trained", "other.csv", "--out", "x.csv"], "There is no column 'memory_percent'"),
        (["trained", "recent.csv", "--group-column", "host", "--out", "x.csv"], "no column 'host'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(
    folder: Path, arguments: list[str], sentence: str
) -> None:
    write_metrics(folder / "hourly.csv", {"web-0": 60}, minutes=60)
    write_metrics(folder / "short.csv", {"web-0": 5})
    text = (folder / "recent.csv").read_text()
    (folder / "other.csv").write_text(text.replace("memory_percent", "disk_percent"))

    shown = predict(folder, *arguments)

    assert shown.exit_code == 2
    assert isinstance(shown.exception, SystemExit)  # and no traceback
    assert sentence in shown.stderr
    assert not list(folder.glob("x.*"))
