from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import store as store_module
from benchmarks.store import RunKey, Store, code_sha256

if TYPE_CHECKING:
    from pathlib import Path

KEY = RunKey("ours", {"seed": 1, "epochs": 6}, "data", "code", "machine")


def test_a_finished_run_is_found_again(tmp_path: Path) -> None:
    Store(tmp_path / "runs").keep(KEY, {"seconds": 1.5})

    assert Store(tmp_path / "runs").find(KEY) == {"seconds": 1.5}


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, contestant="darts"),
        replace(KEY, settings={"seed": 2, "epochs": 6}),
        replace(KEY, data_sha256="other data"),
        replace(KEY, code_sha256="other code"),
        replace(KEY, machine_sha256="another machine"),
    ],
)
def test_a_run_of_anything_else_is_not_taken_for_it(other: RunKey, tmp_path: Path) -> None:
    Store(tmp_path).keep(KEY, {})

    assert Store(tmp_path).find(other) is None


def test_half_a_file_is_no_run(tmp_path: Path) -> None:
    Store(tmp_path).path(KEY, ".part").write_text('{"facts": ', encoding="utf-8")

    assert Store(tmp_path).find(KEY) is None


def test_comments_and_docstrings_do_not_change_the_code_but_numbers_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "ROOT", tmp_path)
    file = tmp_path / "module.py"

    def hashed(source: str) -> str:
        file.write_text(source, encoding="utf-8")
        return code_sha256(file)

    plain = hashed("def double(x):\n    return 2 * x\n")

    assert (
        hashed('"""What it does."""\n\ndef double(x):  # twice\n    """Twice."""\n    return 2*x\n') == plain
    )
    assert hashed("def double(x):\n    return 3 * x\n") != plain


def test_a_new_file_in_a_folder_changes_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ROOT", tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one.py").write_text("x = 1\n")
    before = code_sha256(tmp_path / "package")
    (tmp_path / "package" / "two.py").write_text("")

    assert code_sha256(tmp_path / "package") != before
