"""`python -m tests.chaos.scripted_worker NAME PLANS`: `foretrain worker` with a scripted trainer."""

from __future__ import annotations

import sys
from pathlib import Path

from foretrain.pulse import Pulse
from foretrain.setup import open_object_storage, set_up
from worker.app import serve

# Isolated and without site-packages: half of what a start costs, and its imports are the standard library's.
TRAINER = (sys.executable, "-I", "-S", str(Path(__file__).with_name("scripted_trainer.py")))


def main() -> int:
    name, plans = sys.argv[1:]
    settings = set_up()
    return serve(
        settings,
        open_object_storage(settings),
        name=name,
        on_beat=Pulse(settings.data_dir, "worker").beat,
        trainer=(*TRAINER, plans),
        warm_trainer=(*TRAINER, plans, "--warm"),
    )


if __name__ == "__main__":
    sys.exit(main())
