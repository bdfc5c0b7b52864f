"""`python -P -m trainer.warm`: a trainer that loads its libraries before there is a run for it.

They take longer to import than a short job to train. The first line on stdin, {"run_dir": …, "threads": …,
"memory_limit": …, "memory_kills": …}, makes it `python -P -m trainer RUN_DIR --threads N` with these options;
null stands for one that is not given. The end of stdin ends it, now or then.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from trainer.loading import quick_imports
from trainer.pipe import STDIN, end_with_supervisor, read_line
from trainer.threads import let_threads_sleep


def main() -> int:
    """Returns the exit code of the run."""
    end_with_supervisor()
    let_threads_sleep()
    with quick_imports():
        for library in ("trainer.recipe", "torch.utils.tensorboard"):
            importlib.import_module(library)
    importlib.import_module("trainer.native.library").why_no_kernels()  # compiled here, not in the first run
    sys.argv = ["trainer", *_arguments(json.loads(read_line(STDIN)))]
    program = importlib.import_module("trainer.__main__")
    exit_code: int = program.main()
    return exit_code


def _arguments(order: dict[str, Any]) -> list[str]:
    options = [(name, value) for name, value in order.items() if name != "run_dir" and value is not None]
    words = [word for name, value in options for word in (f"--{name.replace('_', '-')}", str(value))]
    return [str(order["run_dir"]), *words]


if __name__ == "__main__":
    sys.exit(main())
