"""`python -P -m trainer RUN_DIR`: one training run under a supervisor.

RUN_DIR holds spec.json, schema.json, mapping.json, dataset.<format> and, where an earlier attempt left one,
resume.safetensors to go on from; everything is written to RUN_DIR/out.
Events are JSON lines on stdout, wishes JSON lines on stdin, the log is stderr. Exit code 0: finished or
stopped; 2: the user's mistake (a `failed` event says which); 1: anything else; 3: the supervisor is gone.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import CannotResume, RankLost, TrainerError
from trainer.events import Failed, Warned
from trainer.loading import quick_imports
from trainer.memory import limit_memory
from trainer.pipe import STDIN, SupervisorPipe, end_likewise, take_stdout
from trainer.threads import let_threads_sleep

if TYPE_CHECKING:
    from trainer.events import FailureCode
    from trainer.observer import Observer

USERS_MISTAKES: frozenset[FailureCode] = frozenset({"invalid_dataset", "unsupported_hardware"})


def main() -> int:
    """Returns the exit code."""
    arguments = _arguments()
    observer = SupervisorPipe(take_stdout(), STDIN)
    try:
        _run(arguments, observer)
    except RankLost as error:
        # As with one process: its supervisor sees a crash, or a kill for want of memory, and tries again.
        traceback.print_exc()
        end_likewise(error.return_code)
    except TrainerError as error:
        if error.code not in USERS_MISTAKES:
            traceback.print_exc()
        observer.report(Failed(code=error.code, message=str(error)))
        return 2 if error.code in USERS_MISTAKES else 1
    except Exception:  # noqa: BLE001 - the supervisor hears of every end
        traceback.print_exc()
        observer.report(Failed(code="internal", message="the trainer failed unexpectedly; see the job's log"))
        return 1
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -P -m trainer", description="Train one model.")
    parser.add_argument("run_dir", type=Path, help="holds spec.json, schema.json, mapping.json and the data")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: all cores")
    parser.add_argument("--memory-limit", type=int, default=None, help="bytes to allocate at most")
    parser.add_argument(
        "--memory-kills", type=int, default=0, help="earlier attempts that were killed for want of memory"
    )
    return parser.parse_args()


def _run(arguments: argparse.Namespace, observer: Observer) -> None:
    run_dir: Path = arguments.run_dir
    # Imported here, so that the supervisor hears of it if torch cannot be loaded.
    from trainer.dataset.schema import DatasetMapping, DatasetSchema  # noqa: PLC0415
    from trainer.spec import TrainingSpec  # noqa: PLC0415

    spec = TrainingSpec.model_validate_json((run_dir / "spec.json").read_bytes())
    schema = DatasetSchema.model_validate_json((run_dir / "schema.json").read_bytes())
    mapping = DatasetMapping.model_validate_json((run_dir / "mapping.json").read_bytes())

    let_threads_sleep()
    with quick_imports():
        import torch  # noqa: PLC0415

        from trainer.keeping import RESUME_STATE  # noqa: PLC0415
        from trainer.recipe import CHECKPOINT_SECONDS, DatasetFile, train  # noqa: PLC0415
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_limit is not None:
        # Needed later; a library that is half loaded when memory ends is beyond repair.
        importlib.import_module("torch.utils.tensorboard")
        limit_memory(arguments.memory_limit // spec.devices)
    start = partial(
        train,
        spec,
        DatasetFile(run_dir / f"dataset.{schema.format}", schema.format, mapping, schema),
        run_dir / "out",
        observer,
        memory_kills=arguments.memory_kills,
        checkpoint_seconds=float(os.environ.get("FORETRAIN_CHECKPOINT_SECONDS", CHECKPOINT_SECONDS)),
    )
    state = run_dir / RESUME_STATE
    try:
        start(resume_from=state if state.exists() else None)
    except CannotResume as error:
        observer.report(Warned(code="resume_failed", message=f"{error}; training starts afresh"))
        start()


if __name__ == "__main__":
    sys.exit(main())
