"""`python -P -m trainer RUN_DIR`, as a supervisor starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trainer.events import parse_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.spec import TrainingSpec

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def make_run_dir(make_series: Any, make_dataset: Any, make_spec: Any, tmp_path: Path) -> Callable[..., Path]:
    """A folder as the worker lays it out."""

    def build(lengths: tuple[int, ...] = (80, 70), **changes: Any) -> Path:
        run_dir = tmp_path / "run"
        run_dir.mkdir()
        data = make_dataset(make_series(lengths), run_dir / "dataset.parquet")
        spec: TrainingSpec = make_spec(**changes)
        (run_dir / "spec.json").write_text(spec.model_dump_json())
        (run_dir / "schema.json").write_text(data.schema.model_dump_json())
        (run_dir / "mapping.json").write_text(data.mapping.model_dump_json())
        return run_dir

    return build


def start(run_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "trainer", str(run_dir), "--threads", "1"],
        cwd=run_dir,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(child: subprocess.Popen[bytes]) -> tuple[int, list[Any], str]:
    """Exit code, events and log; the child's stdin stays open until it ends by itself."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    events = [parse_event(line) for line in child.stdout]
    log = child.stderr.read().decode()
    code = child.wait(timeout=60)
    for stream in (child.stdin, child.stdout, child.stderr):
        stream.close()
    return code, events, log


@pytest.mark.slow
def test_a_run_reports_its_events_and_leaves_its_artifacts(make_run_dir: Any) -> None:
    run_dir = make_run_dir()

    code, events, log = finish(start(run_dir))

    assert code == 0, log
    assert events[0].type == "phase"
    assert events[-1].type == "finished"
    artifacts = {event.name for event in events if event.type in {"artifact", "checkpoint"}}
    assert artifacts | {"tensorboard"} == {path.name for path in (run_dir / "out").iterdir()}
    assert json.loads((run_dir / "out" / "result.json").read_text())["hardware"]["threads"] == 1
    assert log == ""


@pytest.mark.slow
def test_a_cancel_on_stdin_stops_the_run_with_its_weights(make_run_dir: Any) -> None:
    run_dir = make_run_dir(epochs=1000, early_stopping_patience=0)
    child = start(run_dir)
    assert child.stdout is not None
    assert child.stdin is not None
    first: list[Any] = []
    while not any(event.type == "checkpoint" for event in first):
        first.append(parse_event(child.stdout.readline()))
    child.stdin.write(b'{"stop": "cancel"}\n')
    child.stdin.flush()

    code, events, log = finish(child)

    assert code == 0, log
    assert [event.type for event in events[-2:]] == ["checkpoint", "stopped"]
    assert (run_dir / "out" / "last.ckpt").exists()


@pytest.mark.slow
def test_the_run_dies_with_its_supervisor(make_run_dir: Any) -> None:
    child = start(make_run_dir(epochs=1000, early_stopping_patience=0))
    assert child.stdout is not None
    assert child.stdin is not None
    while parse_event(child.stdout.readline()).type != "progress":
        pass
    child.stdin.close()
    closed_at = time.monotonic()
    child.stdin = None

    assert child.wait(timeout=10) == 3
    assert time.monotonic() - closed_at < 2
    child.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"lengths": (12,)}, "invalid_dataset"),
        ({"accelerator": "cuda"}, "unsupported_hardware"),
    ],
)
def test_the_users_mistake_ends_with_2_and_a_sentence(
    make_run_dir: Any, changes: dict[str, Any], failure: str
) -> None:
    code, events, log = finish(start(make_run_dir(**changes)))

    assert code == 2
    assert (events[-1].type, events[-1].code) == ("failed", failure)
    assert "Traceback" not in log


@pytest.mark.slow
def test_what_nobody_foresaw_ends_with_1_and_its_traceback_in_the_log_alone(make_run_dir: Any) -> None:
    run_dir = make_run_dir()
    shutil.rmtree(run_dir / "out", ignore_errors=True)
    (run_dir / "out").write_text("in the way")

    code, events, log = finish(start(run_dir))

    assert code == 1
    assert (events[-1].type, events[-1].code) == ("failed", "internal")
    assert "Traceback" not in events[-1].message
    assert "FileExistsError" in log
