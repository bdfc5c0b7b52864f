"""The kernels, compiled for this very processor by whatever C compiler there is, once for a machine."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import importlib.util
import logging
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).resolve().parent
_FLAGS = (
    *("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-shared"),
    "-fschedule-insns",  # gcc 12: matrix products at 100 instead of 67 GFLOPS; clang ignores it
    "-w",
    "-lm",
)
_COMPILE_SECONDS = 300.0
_POINTER_BYTES = 8
log = logging.getLogger(__name__)


class NoKernels(Exception):
    """They cannot be had here; the text says why, for the user."""


@dataclass(frozen=True)
class Kernels:
    """The loaded library. `rows` of a block is the unit work is divided by."""

    handle: ctypes.CDLL
    rows: int

    def run(self, name: str, arguments: list[list[int]]) -> None:
        """Call the kernel `name` with each of the arguments, side by side; the caller keeps memory alive.

        Raises MemoryError where there was not enough for a kernel's scratch.
        """
        self.call(name, [(ctypes.c_int64 * len(one))(*one) for one in arguments])

    def call(self, name: str, arguments: Sequence[Any]) -> None:
        """As `run`, of arguments laid out as the kernel has them."""
        kernel = getattr(self.handle, name)
        # All are waited for, whatever becomes of one: they write to the caller's memory.
        rest = [self._pool.submit(kernel, ctypes.byref(one)) for one in arguments[1:]]
        failed = [kernel(ctypes.byref(arguments[0])), *(one.result() for one in rest)]
        if any(failed):
            raise MemoryError("memory did not suffice for the scratch of a kernel")

    def ranges(self, rows: int, least_blocks: int) -> list[tuple[int, int]]:
        """The blocks of rows, divided between the threads torch may use; at least so many each."""
        blocks = math.ceil(rows / self.rows)
        parts = max(1, min(torch.get_num_threads(), blocks // least_blocks))
        return [(blocks * part // parts, blocks * (part + 1) // parts) for part in range(parts)]

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="kernels")


@cache
def load_kernels() -> Kernels:
    """Compile or find them. Raises NoKernels: no compiler, an unsuitable machine, or switched off.

    FORETRAIN_KERNELS=off in the environment switches them off.
    """
    if os.environ.get("FORETRAIN_KERNELS", "") == "off":
        raise NoKernels("switched off by FORETRAIN_KERNELS=off")
    if ctypes.sizeof(ctypes.c_void_p) != _POINTER_BYTES or sys.byteorder != "little" or os.name != "posix":
        raise NoKernels(f"not made for {platform.system()} on {platform.machine()}")
    try:
        handle = ctypes.CDLL(str(_compiled()))
    except OSError as error:
        raise NoKernels(f"the compiled kernels do not load: {error}") from error
    return Kernels(handle, handle.rows_of_a_block())


def why_no_kernels() -> str | None:
    """Why they cannot be had here, or None if they can."""
    try:
        load_kernels()
    except NoKernels as reason:
        return str(reason)
    return None


def _compiled() -> Path:
    """The library's file in the user's cache, named by what it depends on."""
    compiler = _compiler()
    sources = sorted([*_HERE.glob("*.c"), *_HERE.glob("*.h")])
    digest = hashlib.sha256(repr((compiler, _FLAGS, _processor())).encode())
    for source in sources:
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}.so"
    kept = _cache_folder()
    if kept is not None and (kept / name).is_file():
        return kept / name
    try:
        if kept is not None:
            return _compile(compiler, kept, name)
    except OSError as error:
        log.debug("the kernels cannot be kept in %s: %s", kept, error)
    try:
        return _compile(compiler, _own_folder(), name)
    except OSError as error:
        raise NoKernels(f"no folder for the compiled kernels can be written: {error}") from error


def _compile(compiler: tuple[str, ...], folder: Path, name: str) -> Path:
    """Raises OSError if the folder is none to write in."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        unfinished = Path(place) / name
        native = (
            "-mcpu=native" if "ziglang" in compiler or platform.machine() == "aarch64" else "-march=native"
        )
        command = [*compiler, str(_HERE / "kernels.c"), "-o", str(unfinished), *_FLAGS, native]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_COMPILE_SECONDS)
        except subprocess.CalledProcessError as error:
            raise NoKernels(f"the C compiler failed: {error.stderr.strip()[-500:]}") from error
        except subprocess.TimeoutExpired as error:
            raise NoKernels("the C compiler took too long") from error
        unfinished.replace(folder / name)
    return folder / name


def _compiler() -> tuple[str, ...]:
    """The system's, else the one that comes as a Python package. Raises NoKernels."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return (found,)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    raise NoKernels("there is no C compiler; `pip install ziglang` brings one")


def _cache_folder() -> Path | None:
    """The user's own, as what lies there is run; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "foretrain"
    home = os.environ.get("HOME")
    return Path(home) / ".cache" / "foretrain" if home else None


def _own_folder() -> Path:
    """Of this process alone, where nothing can be kept."""
    folder = Path(tempfile.mkdtemp(prefix="foretrain-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
