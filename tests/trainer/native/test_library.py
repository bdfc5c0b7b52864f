from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.native.library import _compiler, why_no_kernels

REPOSITORY = Path(__file__).parents[3]
ASK = "from trainer.native.library import why_no_kernels; print(why_no_kernels())"


def hasty_compiler(folder: Path) -> Path:
    """The machine's own without what takes it half a minute; each call leaves a line in `folder/calls`."""
    hasty = folder / "cc"
    command = f'{" ".join(_compiler())} "$@" -O0 -fno-schedule-insns'
    hasty.write_text(f"#!/bin/sh\necho >> {folder / 'calls'}\nexec {command}\n")
    hasty.chmod(0o755)
    return hasty


def answer(environment: dict[str, str]) -> str:
    """What a process of its own says in this environment."""
    command = [sys.executable, "-c", ASK]
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(command, check=True, env=path | environment, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_set_up_machine_has_them() -> None:
    """`make install` brings a compiler where there is none."""
    assert why_no_kernels() is None


def test_they_can_be_switched_off() -> None:
    assert "FORETRAIN_KERNELS=off" in answer({"FORETRAIN_KERNELS": "off"})


def test_without_a_compiler_the_reason_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(Exception, match="pip install ziglang"):
        _compiler()


def test_a_compiler_that_fails_is_no_failure_of_the_trainer(tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    broken.chmod(0o755)

    assert "no such flag" in answer({"CC": str(broken), "XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.slow
def test_they_are_compiled_once(tmp_path: Path) -> None:
    environment = {
        "CC": str(hasty_compiler(tmp_path)),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": "/usr/bin:/bin",
    }

    assert [answer(environment) for _ in range(2)] == ["None", "None"]
    assert (tmp_path / "calls").read_text() == "\n"


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    compiler = str(hasty_compiler(tmp_path))
    environment = {"CC": compiler, "XDG_CACHE_HOME": str(tmp_path / "file"), "PATH": "/usr/bin:/bin"}

    assert answer(environment) == "None"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere RLIMIT_DATA is no limit")
def test_a_kernel_without_memory_for_its_scratch_says_so_and_the_process_lives_on() -> None:
    script = """
import resource
from pathlib import Path

import torch
from trainer.native.functions import NO_DROPS, attention

MEBIBYTE = 1 << 20
torch.set_num_threads(1)
size, past, horizon = 32, 8000, 16  # scratch of 20 MiB and more, twice that in the backward pass
x = torch.randn(past + horizon, 2, size, requires_grad=True)
shapes = ((size, size), (size,), (size + 8, size), (size + 8,), (size, 8))
weights = [torch.randn(shape, requires_grad=True) for shape in shapes]

def forward():
    return attention(x, (past, 4, True), weights, NO_DROPS)[0].sum()

def limit(further):
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    held = int(fields["VmData"].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (held + further * MEBIBYTE, resource.RLIM_INFINITY))

def attempt(call, *arguments):
    try:
        call(*arguments)
    except MemoryError as error:
        print(error)
    else:
        print("lives on")

loss = forward()
limit(10)
attempt(forward)
attempt(torch.autograd.backward, loss)
limit(300)
attempt(lambda: torch.autograd.backward(forward()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )

    refused = "memory did not suffice for the scratch of a kernel"
    assert done.stdout.splitlines() == [refused, refused, "lives on"], done.stderr
