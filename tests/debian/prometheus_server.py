"""What the real Prometheus answers, of samples that it was given: `make test-proxy`, for it needs Debian."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pytest

from tests.api.conftest import RunningApi, running
from tests.conftest import make_settings
from tests.trainer.dataset.monitoring import as_series
from tests.trainer.dataset.samples import as_csv, fleet
from trainer.dataset.inspection import inspect
from trainer.dataset.schema import DatasetMapping, DatasetSchema
from trainer.dataset.series import load_series

if TYPE_CHECKING:
    from tests.trainer.dataset.samples import Rows

START_SECONDS = 60.0
STEP = 300


def counted() -> Rows:
    """A fleet with two gauges and a counter that begins anew now and then."""
    rows = fleet(3, 60)
    rng = np.random.default_rng(7)
    for row in rows:
        row["memory_percent"] = round(float(rng.uniform(0, 100)), 6)
    sent = 0.0
    for row in rows:
        sent = 0.0 if rng.random() < 0.1 else sent + round(float(rng.uniform(0, 1e6)), 3)
        row["sent_total"] = sent
    return rows


def as_openmetrics(rows: Rows) -> str:
    lines: dict[str, list[str]] = {}
    for key, samples in as_series(rows).items():
        labels = dict(key)
        name = labels.pop("__name__")
        told = ",".join(f'{label}="{value}"' for label, value in labels.items())
        lines.setdefault(name, []).extend(f"{name}{{{told}}} {value} {at}" for at, value in samples)
    families = []
    for name, its_lines in lines.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        families += [f"# TYPE {name.removesuffix('_total')} {kind}", *its_lines]
    return "\n".join([*families, "# EOF", ""])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that holds `counted()`."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples.txt").write_text(as_openmetrics(counted()))
    (folder / "prometheus.yml").write_text("{}\n")
    made = [_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "data"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        _program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, cwd=folder, stderr=log) as process:
        try:
            _wait_until_ready(process, f"http://{address}")
            yield f"http://{address}"
        finally:
            process.terminate()


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed: apt-get install prometheus"
    return found


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError("Prometheus did not start")


def a_range() -> dict[str, Any]:
    stamps = [row["timestamp"] for row in counted()]
    return {"start": min(stamps), "end": max(stamps), "step": f"{STEP}s"}


def without_order(schema: DatasetSchema) -> dict[str, Any]:
    """Prometheus sorts its series: the order of columns is its own."""
    columns = {column.name: column for column in schema.columns}
    return schema.model_dump(exclude={"format", "columns"}) | {"columns": columns}


def test_its_answer_is_the_dataset_of_the_csv_of_the_same_numbers(server: str, tmp_path: Path) -> None:
    asked = a_range() | {"query": '{__name__=~".+_percent|sent_total"}'}
    answer = httpx2.get(f"{server}/api/v1/query_range", params=asked)
    (tmp_path / "answer.json").write_bytes(answer.content)
    (tmp_path / "table.csv").write_text(as_csv(counted()))
    files: list[tuple[Path, Any]] = [
        (tmp_path / "answer.json", "prometheus"),
        (tmp_path / "table.csv", "csv"),
    ]
    schemas = [inspect(path, kind, DatasetMapping()) for path, kind in files]
    assert without_order(schemas[0]) == without_order(schemas[1])
    theirs, ours = (
        load_series(path, kind, DatasetMapping(), schema, ["cpu_percent", "memory_percent"], [], "error")
        for (path, kind), schema in zip(files, schemas, strict=True)
    )
    assert theirs.series_names == ours.series_names
    for name, values in ours.values.items():
        assert (theirs.values[name] == values).all()


@pytest.fixture
def pulling(sqlite_url: str, tmp_path: Path, server: str) -> Iterator[RunningApi]:
    settings = make_settings(
        tmp_path, database_url=sqlite_url, pull_urls=[server], pull_networks=["127.0.0.0/8"]
    )
    with running(settings) as started:
        yield started.signed_in()


def test_a_pull_is_the_same_dataset_and_a_counter_grows_as_irate_says(
    pulling: RunningApi, server: str, tmp_path: Path
) -> None:
    queries = {
        "cpu": "cpu_percent",
        "rate": f"irate(sent_total[{2 * STEP}s])",
        "sent": "sent_total # a counter, taken as it is",
    }
    mapping = {"columns": {"sent": {"unit": "bytes", "counter": True}, "cpu": {"name": "cpu_percent"}}}
    body = {"url": server, "queries": queries, "mapping": mapping} | a_range()
    answer = pulling.client.post("/v1/datasets/pull", json=body)
    assert answer.status_code == 201, answer.text
    schema = DatasetSchema.model_validate(answer.json()["schema"])
    csv = tmp_path / "table.csv"
    csv.write_text(as_csv(counted()))
    columns = {column.name: column for column in inspect(csv, "csv", DatasetMapping()).columns}
    assert {column.name: column for column in schema.columns}["cpu_percent"] == columns["cpu_percent"]
    stored = tmp_path / "stored"
    key = next(pulling.storage.list("tenants"))
    stored.write_bytes(b"".join(pulling.storage.read_range(key, 0, pulling.storage.size(key))))
    series = load_series(
        stored, "prometheus", DatasetMapping.model_validate(mapping), schema, ["rate", "sent"], [], "mask"
    )
    seen = series.observed["rate"] & series.observed["sent"]
    assert seen.sum() == 3 * 59
    np.testing.assert_allclose(series.values["sent"][seen], series.values["rate"][seen], rtol=1e-6)


def test_a_query_that_it_refuses_is_the_caller_s_to_mend(pulling: RunningApi, server: str) -> None:
    body = {"url": server, "queries": {"cpu": "rate(cpu_percent"}} | a_range()
    answer = pulling.client.post("/v1/datasets/pull", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/queries/cpu"
    assert "parse error" in answer.json()["detail"]
