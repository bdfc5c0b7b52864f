"""How torch's threads wait for each other. To be settled before torch is loaded."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait, rather than spin.

    Spinning wins a little on an idle machine. Beside a database, an API or a second run on the same cores it
    costs most of the time there is: with two threads on two busy cores a step took ten times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
