"""Finished runs on disk, one JSON with the forecasts beside it each: a benchmark goes on where it ended.

A run is taken again only for the same contestant and settings, the same data, the same code and the same
machine.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_STORE = Path(__file__).resolve().parent / "runs"


@dataclass(frozen=True)
class RunKey:
    """What a run was of; equal keys give equal runs."""

    contestant: str
    settings: dict[str, Any]
    data_sha256: str
    code_sha256: str
    machine_sha256: str

    @property
    def name(self) -> str:
        """A file's name without a suffix."""
        text = json.dumps(self.__dict__, sort_keys=True)
        return f"{self.contestant}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Store:
    """A folder of finished runs."""

    folder: Path

    def path(self, key: RunKey, suffix: str = ".json") -> Path:
        return self.folder / (key.name + suffix)

    def find(self, key: RunKey) -> dict[str, Any] | None:
        """The facts of a finished run, or None."""
        path = self.path(key)
        if not path.is_file():
            return None
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["facts"]
        return facts

    def keep(self, key: RunKey, facts: dict[str, Any]) -> None:
        """Written whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"key": key.__dict__, "machine": describe_machine(), "facts": facts}
        unfinished = self.path(key, ".part")
        unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
        unfinished.replace(self.path(key))


def code_sha256(*paths: Path) -> str:
    """Of what the modules do: comments, docstrings and layout do not count. Folders count with all below."""
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    digest = hashlib.sha256()
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        digest.update(f"{file.relative_to(ROOT).as_posix()}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:]


@cache
def describe_machine() -> dict[str, Any]:
    """What decides a figure: processor, cores, memory, system."""
    fields = dict(line.split(":", 1) for line in _lines("/proc/cpuinfo") if ":" in line)
    names = {name.strip(): value.strip() for name, value in fields.items()}
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": names.get("model name", platform.processor() or platform.machine()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20),
        "bf16_on_cpu": bool({"avx512_bf16", "amx_bf16"} & set(names.get("flags", "").split())),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def machine_sha256() -> str:
    return hashlib.sha256(json.dumps(describe_machine(), sort_keys=True).encode()).hexdigest()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
