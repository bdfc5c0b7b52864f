"""Threads that belong to an attempt."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable


def attempt_thread(name: str, act: Callable[[], object]) -> threading.Thread:
    """Not started yet. What it logs names the job and the attempt of the thread that made it."""
    # A thread starts with an empty context otherwise; and each needs its own, for two cannot be in one.
    context = contextvars.copy_context()
    return threading.Thread(target=context.run, args=(act,), name=name, daemon=True)
