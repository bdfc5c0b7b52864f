from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("fastapi", "uvicorn", "sqlalchemy", "celery", "redis", "obstore", "alembic", "structlog"),
    *("torch", "lightning", "pandas", "numpy", "pyarrow", "matplotlib", "httpx2"),
}


def foretrain(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "foretrain", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        check=False,
    )


def test_help_needs_neither_the_servers_packages_nor_torch() -> None:
    script = (
        "import json, sys; from foretrain.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )

    shown = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert not HEAVY & set(json.loads(shown.stderr))
    for command in (
        "up",
        "api",
        "scheduler",
        "worker",
        "migrate",
        "keys",
        "storage",
        "jobs",
        "datasets",
        "login",
        "train",
        "predict",
        "doctor",
        "sample-data",
        "demo",
    ):
        assert command in shown.stdout


def test_the_client_needs_neither_the_servers_packages_nor_torch() -> None:
    script = "import json, sys; import foretrain.client; print(json.dumps(sorted(sys.modules)))"

    shown = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    loaded = {name.partition(".")[0] for name in json.loads(shown.stdout)}
    assert not (HEAVY - {"httpx2"}) & loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nowhere.csv"], "there is no file nowhere.csv"),
        (["train", "."], "is a folder; a folder of files is not supported yet"),
        (["train", "notes.txt"], "notes.txt has none of the endings .csv.gz, .csv, .parquet"),
        (
            ["train", "metrics.csv", "--hidden-size", "7"],
            "--hidden-size: Input should be greater",
        ),
        (["train", "metrics.csv", "--quantiles", "0.1,half"], "'half' is not a number"),
        (["train", "metrics.csv", "--compile", "auto"], "compile is not supported yet"),
        (["train", "metrics.csv", "--frequency", "often"], "--frequency: "),
        (["train", "empty.csv"], "empty.csv: "),
        (["train", "metrics.csv", "--out", "."], "is there already and not empty"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "metrics.csv").write_text("timestamp,cpu_percent\n2026-01-01T00:00:00Z,1\n")

    shown = foretrain(*arguments, cwd=tmp_path)

    assert shown.returncode == 2
    assert shown.stderr.startswith("foretrain: ")
    assert sentence in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_an_unknown_option_of_train_is_named(tmp_path: Path) -> None:
    shown = foretrain("train", "metrics.csv", "--epoch", "3", cwd=tmp_path)

    assert shown.returncode == 2
    assert "--epoch" in shown.stderr
    assert "Traceback" not in shown.stderr
