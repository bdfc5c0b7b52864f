"""What docs/cookbook.md shows is run against a real service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.foretrain.client.scripted_service import Says, scripted
from tests.foretrain.client.test_calls import CSV
from tests.foretrain.serving import CHECKPOINT, Running

ROOT = Path(__file__).parents[2]
COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")


def snippets(section: str, language: str) -> list[str]:
    """The code blocks of a section."""
    found = re.findall(rf"```{language}\n(.*?)```", text_of(section), re.DOTALL)
    assert found
    return found


def text_of(section: str) -> str:
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", COOKBOOK, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def run(command: list[str], running: Running, folder: Path, **more: str) -> str:
    (folder / "metrics.csv").write_text(CSV)
    given = {"FORETRAIN_URL": running.url, "FORETRAIN_API_KEY": running.key, "PYTHONPATH": str(ROOT)} | more
    done = subprocess.run(
        command, cwd=folder, env=os.environ | given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_snippet_runs(running: Running, tmp_path: Path) -> None:
    assert run([sys.executable, "-c", snippets("Python", "python")[0]], running, tmp_path) == "cancelled\n"


def test_the_python_snippet_of_what_can_go_wrong_names_each(running: Running, tmp_path: Path) -> None:
    snippet = [sys.executable, "-c", snippets("Python", "python")[1]]
    with scripted(Says(body=b"<html>welcome</html>")) as other:
        shown = [
            run(snippet, running, tmp_path, **instead)
            for instead in (
                {},
                {"FORETRAIN_API_KEY": "ft_nonsense"},
                {"FORETRAIN_URL": "http://127.0.0.1:1"},
                {"FORETRAIN_URL": other.url},
            )
        ]

    assert [one.split(":")[0] for one in shown] == [
        "jobs",
        "refused",
        "nobody answered, not even after the retries",
        "something else answered",
    ]


def test_the_shell_snippet_runs(running: Running, tmp_path: Path) -> None:
    program = f'foretrain() {{ "{sys.executable}" -P -m foretrain "$@"; }}\n{snippets("Shell", "sh")[0]}'

    shown = run(["sh", "-ec", program], running, tmp_path)

    assert shown.endswith(" cancelled\n")


TOOLS = "".join(
    f'{tool}() {{ "{sys.executable}" -P "{ROOT}/tests/foretrain/shell_tools.py" {tool} "$@"; }}\n'
    for tool in ("curl", "jq")
)


def test_the_curl_snippet_uploads_submits_follows_and_cancels(running: Running, tmp_path: Path) -> None:
    submits, _ = snippets("curl", "sh")

    ready, status, listed, ended = run(["sh", "-ec", TOOLS + submits], running, tmp_path).split()

    assert (ready, status, ended) == ("ready", "queued", "cancelled")
    assert listed.startswith("job_")


def test_the_curl_download_goes_on_where_it_broke_off(
    running: Running, finished_job: str, tmp_path: Path
) -> None:
    _, fetches = snippets("curl", "sh")
    begun = tmp_path / "model.ckpt"
    begun.write_bytes(CHECKPOINT[:1000])

    run(["sh", "-ec", TOOLS + fetches], running, tmp_path, job=finished_job)

    assert begun.read_bytes() == CHECKPOINT


def test_grafanas_queries_find_the_rows_and_columns_they_name(running: Running, finished_job: str) -> None:
    running.add_job()
    text = " ".join(text_of("Grafana").split())
    queries = re.findall(r"URL `([^`]+)`, rows `([^`]+)`(?:, columns ([^.]*?`)(?: as|\.))?", text)
    assert len(queries) == 3
    columns = [re.findall(r"`([^`]+)`", names) for _, _, names in queries]

    for (path, rows, _), named in zip(queries, columns, strict=True):
        address = running.url + path.replace("${job}", finished_job)
        answer = httpx2.get(address, headers={"Authorization": f"Bearer {running.key}"})
        assert answer.status_code == 200, answer.text
        found = value_at(answer.json(), rows)
        assert found, path
        for column in named:
            value_at(found[0], column)


def value_at(found: Any, path: str) -> Any:
    """By a path such as items[0].points; of what is null nothing more is asked."""
    for name, place in re.findall(r"(\w+)|\[(\d+)\]", path):
        if found is None:
            return None
        found = found[name] if name else found[int(place)]
    return found
