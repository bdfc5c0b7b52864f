from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from core.database import Database
from core.datasets import service
from core.datasets.inspection import InspectionCrashed, inspect_dataset, inspect_in_child
from core.datasets.lifecycle import DatasetStatus
from core.settings import Settings
from core.storage import ObjectStorage
from core.tables import Dataset
from tests.conftest import make_settings
from tests.factories import make_tenant
from trainer.dataset.schema import DatasetMapping, DatasetProblem, DatasetSchema

START = datetime(2026, 1, 1, tzinfo=UTC)
CSV = "timestamp,server,cpu_percent\n" + "".join(
    f"{START + timedelta(minutes=5 * step):%Y-%m-%dT%H:%M:%SZ},{server},{step % 9}.5\n"
    for server in ("a", "b")
    for step in range(60)
)
HANGING = "import time; time.sleep(600)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def fake_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that stands for `trainer.dataset.__main__`, until somebody writes it."""
    package = tmp_path / "fake" / "trainer" / "dataset"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    return package / "__main__.py"


def inspect(path: Path, settings: Settings) -> DatasetSchema | DatasetProblem:
    return inspect_in_child(path, "csv", DatasetMapping(), settings)


def upload(db: Database, storage: ObjectStorage, content: str) -> Dataset:
    with db.sessions.begin() as session:
        ticket = service.begin_upload(session, make_tenant(session).id, "csv", 3600)
    stored = storage.put_stream(ticket.storage_key, iter([content.encode()]), 10**6)
    with db.sessions.begin() as session:
        return service.register_upload(
            session, ticket, stored, name=None, data_format="csv", mapping=DatasetMapping()
        )[0]


def now(db: Database, dataset: Dataset) -> Dataset:
    with db.readers.begin() as session:
        return service.get(session, dataset.tenant_id, dataset.id)


def test_a_good_file_has_a_schema(file: Path, settings: Settings) -> None:
    schema = inspect(file, settings)

    assert isinstance(schema, DatasetSchema)
    assert (schema.series_count, schema.frequency_seconds) == (2, 300.0)
    assert schema.numeric_columns() == ["cpu_percent"]


def test_a_bad_file_has_a_problem(file: Path, settings: Settings) -> None:
    file.write_text("")

    problem = inspect(file, settings)

    assert isinstance(problem, DatasetProblem)
    assert problem.code == "empty_file"


def test_a_child_without_memory_is_a_problem_of_the_file(file: Path, tmp_path: Path) -> None:
    problem = inspect(file, make_settings(tmp_path, inspection_memory_bytes=192 * 1024**2))

    assert isinstance(problem, DatasetProblem)
    assert problem.code == "out_of_memory"


@pytest.mark.slow
def test_many_bytes_of_objects_in_few_of_text_are_a_problem_of_the_file(file: Path, tmp_path: Path) -> None:
    # Each a series of its own: many times as large once they are objects.
    series = ",".join(f'{{"metric":{{"a":"{place}"}},"values":[[1,"1"]]}}' for place in range(300_000))
    file.write_text(f"[{series}]")
    settings = make_settings(tmp_path, inspection_memory_bytes=448 * 1024**2)

    problem = inspect_in_child(file, "prometheus", DatasetMapping(), settings)

    assert isinstance(problem, DatasetProblem)
    assert problem.code == "out_of_memory"


def test_a_child_that_takes_too_long_is_killed(file: Path, tmp_path: Path, fake_program: Path) -> None:
    fake_program.write_text(HANGING)

    problem = inspect(file, make_settings(tmp_path, inspection_timeout_seconds=0.3))

    assert isinstance(problem, DatasetProblem)
    assert problem.code == "timed_out"


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.abort()",
        "raise SystemExit(1)",
        "print('no json')",
        "print('{}')",
        """print('{"schema": {"format": "csv"}}')""",
        """print('{"problem": {"code": "empty_file", "detail": "x"}}')""",
    ],
)
def test_a_child_without_an_answer_has_crashed(
    file: Path, settings: Settings, fake_program: Path, program: str
) -> None:
    fake_program.write_text(program)

    with pytest.raises(InspectionCrashed):
        inspect(file, settings)


def test_the_child_sees_no_secrets(
    file: Path, settings: Settings, fake_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORETRAIN_DATABASE_URL", "postgresql://user:hushhush@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hushhush")
    fake_program.write_text(
        dedent("""
            import json, os
            print(json.dumps({"problem": {"code": "empty_file", "detail": " ".join(os.environ.values())}}))
            raise SystemExit(2)
        """)
    )

    problem = inspect(file, settings)

    assert isinstance(problem, DatasetProblem)
    assert "hushhush" not in problem.detail


def test_an_uploaded_file_is_inspected_where_it_lies(
    sqlite: Database, storage: ObjectStorage, settings: Settings
) -> None:
    dataset = upload(sqlite, storage, CSV)

    assert inspect_dataset(sqlite, storage, settings, dataset.id)

    assert now(sqlite, dataset).status is DatasetStatus.READY


def test_an_inspection_in_good_hands_is_left_alone(
    sqlite: Database, folder_storage: ObjectStorage, settings: Settings
) -> None:
    dataset = upload(sqlite, folder_storage, CSV)
    with sqlite.sessions.begin() as session:
        service.begin_inspection(session, dataset.id, 30)

    assert not inspect_dataset(sqlite, folder_storage, settings, dataset.id)


def test_a_crashed_inspection_is_left_to_the_next_try(
    sqlite: Database, folder_storage: ObjectStorage, settings: Settings, fake_program: Path
) -> None:
    fake_program.write_text("import os; os.abort()")
    dataset = upload(sqlite, folder_storage, CSV)

    assert not inspect_dataset(sqlite, folder_storage, settings, dataset.id)

    after = now(sqlite, dataset)
    assert (after.status, after.inspections_left) == (DatasetStatus.INSPECTING, 1)


def test_a_process_that_stops_gives_the_inspection_back(
    sqlite: Database, folder_storage: ObjectStorage, settings: Settings, fake_program: Path, tmp_path: Path
) -> None:
    fake_program.write_text(f"open({str(tmp_path / 'started')!r}, 'w').close(); {HANGING}")
    dataset = upload(sqlite, folder_storage, CSV)
    stop = threading.Event()
    outcome: list[bool] = []
    arguments = (sqlite, folder_storage, settings, dataset.id, stop)
    thread = threading.Thread(target=lambda: outcome.append(inspect_dataset(*arguments)))

    thread.start()
    while not (tmp_path / "started").exists():
        thread.join(timeout=0.01)
    stop.set()
    thread.join()

    after = now(sqlite, dataset)
    assert outcome == [False]
    assert (after.status, after.inspections_left) == (DatasetStatus.INSPECTING, 2)


def test_a_long_inspection_keeps_its_lease(
    sqlite: Database, folder_storage: ObjectStorage, tmp_path: Path, fake_program: Path
) -> None:
    fake_program.write_text(
        dedent("""
            import time
            time.sleep(1.5)
            print('{"problem": {"code": "empty_file", "detail": "x"}}')
            raise SystemExit(2)
        """)
    )
    quick = make_settings(tmp_path, heartbeat_seconds=0.2, lease_seconds=0.5)
    dataset = upload(sqlite, folder_storage, CSV)

    assert inspect_dataset(sqlite, folder_storage, quick, dataset.id)

    assert now(sqlite, dataset).status is DatasetStatus.REJECTED
