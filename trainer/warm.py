"""`python -P -m trainer.warm`: a trainer that loads its libraries before there is a run for it.

They take longer to import than a short job to train. The first line on stdin, {"run_dir": …, "threads": …,
"memory_limit": …, "memory_kills": …}, makes it `python -P -m trainer RUN_DIR --threads N` with these options;
null stands for one that is not given. The end of stdin ends it, now or then.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import sys
import threading
from typing import Any

from trainer.loading import quick_imports
from trainer.pipe import STDIN, SUPERVISOR_IS_GONE
from trainer.threads import let_threads_sleep


def main() -> int:
    """Returns the exit code of the run."""
    threading.Thread(target=_end_with_supervisor, name="supervisor", daemon=True).start()
    let_threads_sleep()
    with quick_imports():
        for library in ("trainer.recipe", "torch.utils.tensorboard"):
            importlib.import_module(library)
    importlib.import_module("trainer.native.library").why_no_kernels()  # compiled here, not in the first run
    sys.argv = ["trainer", *_arguments(json.loads(_read_line(STDIN)))]
    program = importlib.import_module("trainer.__main__")
    exit_code: int = program.main()
    return exit_code


def _arguments(order: dict[str, Any]) -> list[str]:
    options = [(name, value) for name, value in order.items() if name != "run_dir" and value is not None]
    words = [word for name, value in options for word in (f"--{name.replace('_', '-')}", str(value))]
    return [str(order["run_dir"]), *words]


def _end_with_supervisor() -> None:
    # Waits for the hang-up alone: what comes over the pipe is for others to read.
    watch = select.poll()
    watch.register(STDIN, 0)
    while not any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in watch.poll()):
        pass
    os._exit(SUPERVISOR_IS_GONE)


def _read_line(fd: int) -> bytes:
    """To the end of the line and no further: the wishes behind it are the run's."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(fd, 1)
        if not byte:
            os._exit(SUPERVISOR_IS_GONE)
        line += byte
    return line


if __name__ == "__main__":
    sys.exit(main())
