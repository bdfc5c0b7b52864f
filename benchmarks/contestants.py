"""Who takes part in the quality benchmark, which code each depends on, and how its program is started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.store import ROOT, RunKey, Store, code_sha256, machine_sha256

if TYPE_CHECKING:
    from benchmarks.fleet import Fleet

HERE = Path(__file__).resolve().parent
_FRAME = (HERE / "fleet.py", HERE / "contestant.py")


@dataclass(frozen=True)
class Contestant:
    """A program that trains on a fleet and forecasts it; `python` None is the interpreter that runs us."""

    name: str
    module: str
    code: tuple[Path, ...]
    options: dict[str, Any] = field(default_factory=dict)
    peer: bool = False

    def key(self, fleet_sha256: str, *, seed: int, epochs: int) -> RunKey:
        """What identifies its run."""
        settings = {"seed": seed, "epochs": epochs, "options": self.options}
        return RunKey(self.name, settings, fleet_sha256, code_sha256(*_FRAME, *self.code), machine_sha256())


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("ours", "benchmarks.ours", (HERE / "ours.py", ROOT / "trainer")),
        Contestant("baseline", "benchmarks.run_baseline", (HERE / "run_baseline.py", HERE / "baseline.py")),
        Contestant("neuralforecast", "benchmarks.peer_forecasts", (HERE / "peer_forecasts.py",), peer=True),
        Contestant("darts", "benchmarks.peer_forecasts", (HERE / "peer_forecasts.py",), peer=True),
    )
}


def run_contestant(
    contestant: Contestant,
    fleet: Fleet,
    store: Store,
    *,
    seed: int,
    epochs: int,
    threads: int,
    peers_python: Path,
) -> dict[str, Any]:
    """The facts of this run, from the store or by running it in a process of its own.

    The forecasts lie in the store. Raises CalledProcessError where the program fails; its log stays there.
    """
    key = contestant.key(fleet.sha256(), seed=seed, epochs=epochs)
    found = store.find(key)
    if found is not None:
        return found
    store.folder.mkdir(parents=True, exist_ok=True)
    log = store.path(key, ".log")
    with tempfile.TemporaryDirectory(dir=store.folder) as folder:
        fleet_file, out = Path(folder) / "fleet.npz", Path(folder) / "out"
        fleet.save(fleet_file)
        python = str(peers_python) if contestant.peer else sys.executable
        command = [python, "-m", contestant.module, "--contestant", contestant.name]
        command += [
            "--fleet",
            str(fleet_file),
            "--out",
            str(out),
            "--options",
            json.dumps(contestant.options),
        ]
        command += ["--seed", str(seed), "--epochs", str(epochs), "--threads", str(threads)]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
        with log.open("w") as lines:
            subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=lines, stderr=lines)
        if not out.with_suffix(".json").is_file():
            # Lightning ends with 0 when it is told to stop.
            raise subprocess.CalledProcessError(-signal.SIGTERM, command)
        facts: dict[str, Any] = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
        facts |= {"threads": threads}
        out.with_suffix(".npz").replace(store.path(key, ".npz"))
    store.keep(key, facts)
    log.unlink()
    return facts
