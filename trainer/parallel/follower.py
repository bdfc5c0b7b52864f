"""`python -P -m trainer.parallel.follower`: a rank that trains along with the leader and says nothing.

Its stdin brings a Task and then an Attempt, and the end of it ends the process; on stdout it says when it is
ready; its errors go to the leader's log. Exit code 0: it came to the end the leader came to; 4: out of
memory; 1: anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from trainer.errors import OutOfMemory, TrainerError, named_failure
from trainer.loading import quick_imports
from trainer.observer import StopRequested
from trainer.pipe import STDIN, end_with_supervisor, read_line, take_stdout
from trainer.threads import let_threads_sleep

OUT_OF_MEMORY = 4


def main() -> int:
    """Returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the leader decides
    end_with_supervisor()
    ready_fd = take_stdout()
    let_threads_sleep()
    with quick_imports():
        from trainer.parallel.following import follow  # noqa: PLC0415 - loads torch
    try:
        follow(lambda: read_line(STDIN), ready_fd)
    except StopRequested:
        return 0
    except Exception as error:  # noqa: BLE001 - the leader hears of every end
        if not isinstance(error, TrainerError):  # the leader meets those itself
            traceback.print_exc()
        is_memory = isinstance(named_failure(error, batch_size=0), OutOfMemory)
        return OUT_OF_MEMORY if is_memory else 1
    return 0


if __name__ == "__main__":
    exit_code = main()
    sys.stderr.flush()
    os._exit(exit_code)  # no thread of a library holds up the leader
