"""Stands for the trainer at its pipe, in the standard library alone: it starts in a fortieth of a second.

`scripted_trainer.py PLANS RUN_DIR …` or `scripted_trainer.py PLANS --warm`. A training is a chain of digests:
the state after a step is the sha256 of the state before it and the step's number, so that work that was lost,
done twice or mixed with another run's shows in every later number. PLANS/<random_seed>.json says how long it
is and what goes wrong. Each metric row carries the token of the run that wrote it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

STATE_FILE = "resume.safetensors"
SUPERVISOR_IS_GONE = 3
LINES: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()


def listen() -> None:
    """The end of stdin is the end of the supervisor, and ours."""
    rest = b""
    while chunk := os.read(0, 4096):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            LINES.put(json.loads(line))
    os._exit(SUPERVISOR_IS_GONE)


def tell(kind: str, **fields: object) -> None:
    line = json.dumps({"type": kind, **fields}).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


def next_wish(seconds: float) -> str | None:
    """The wish that comes within this time, if one does."""
    try:
        return str(LINES.get(timeout=seconds)["stop"])
    except queue.Empty:
        return None


class Run:
    """One attempt."""

    def __init__(self, plans: Path, run_dir: Path, memory_limit: int | None) -> None:
        spec = json.loads((run_dir / "spec.json").read_text())
        self.seed = int(spec["random_seed"])
        self.plan: dict[str, Any] = json.loads((plans / f"{self.seed}.json").read_text())
        self.memory_limit = memory_limit
        self.run_dir = run_dir
        self.out = run_dir / "out"
        self.out.mkdir()
        self.token = int(run_dir.name.rsplit("-t", 1)[1])
        self.steps = int(self.plan["steps"])
        self.step = 0
        self.state = hashlib.sha256(f"seed {self.seed}".encode()).digest()
        (plans / f"{run_dir.name}.pid").write_text(str(os.getpid()))

    def execute(self) -> int:
        tell("phase", phase="preparing")
        self.misbehave()
        self.go_on()
        tell("resolved", resolved_spec={"epochs": 1}, adjustments=[], windows={"train": self.steps},
             total_steps=self.steps, parameters=1)  # fmt: skip
        tell("phase", phase="training")
        wish = self.train()
        if wish not in {None, "time_limit"}:
            time.sleep(self.plan["stop_seconds"])
            self.save(STATE_FILE)
            tell("stopped", wish=wish, step=self.step)
            return 0
        tell("phase", phase="saving")
        self.save("model.ckpt")
        self.write("result.json", json.dumps(self.facts()).encode())
        tell("artifact", name="result.json", media_type="application/json")
        time.sleep(self.plan["saving_seconds"])
        tell("finished", stop_reason=wish or "completed", summary=self.facts())
        return 0

    def misbehave(self) -> None:
        match self.plan["behaviour"]:
            case "segfault":
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                os.kill(os.getpid(), signal.SIGSEGV)
            case "memory":
                limit = self.memory_limit or 1 << 40
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
                bytearray(limit)
            case "hang once" if self.token == 1:
                threading.Event().wait()
            case _:
                pass

    def go_on(self) -> None:
        file = self.run_dir / STATE_FILE
        if file.exists():
            header = json.loads(file.read_bytes().split(b"\n", 1)[0])
            self.step, self.state = header["step"], bytes.fromhex(header["state"])

    def train(self) -> str | None:
        """The wish that ended it early."""
        while self.step < self.steps:
            wish = next_wish(self.plan["step_seconds"])
            if wish is not None:
                return wish
            self.step += 1
            self.state = hashlib.sha256(self.state + self.step.to_bytes(8, "big")).digest()
            chain = int.from_bytes(self.state[:6], "big")
            tell("metrics", step=self.step, epoch=0, values={"chain": chain, "token": self.token})
            tell("progress", fraction=self.step / self.steps, epoch=0, epochs=1, step=self.step,
                 total_steps=self.steps, windows_per_second=None, eta_seconds=None)  # fmt: skip
            if self.step % self.plan["save_every"] == 0:
                self.save(STATE_FILE)
                self.save("last.ckpt")
        return None

    def save(self, name: str) -> None:
        header = json.dumps(self.facts()).encode() + b"\n"
        self.write(name, header + hashlib.shake_256(self.state).digest(self.plan["size_bytes"]))
        tell("checkpoint", name=name, step=self.step, epoch=0, val_loss=None)

    def facts(self) -> dict[str, object]:
        return {"seed": self.seed, "step": self.step, "state": self.state.hex(), "token": self.token}

    def write(self, name: str, content: bytes) -> None:
        half_written = self.out / "tmp"
        half_written.write_bytes(content)
        half_written.replace(self.out / name)


def main() -> int:
    plans, arguments = Path(sys.argv[1]), sys.argv[2:]
    threading.Thread(target=listen, daemon=True).start()
    if arguments[0] == "--warm":
        order = LINES.get()
        run_dir, memory_limit = Path(order["run_dir"]), order["memory_limit"]
    else:
        run_dir, memory_limit = Path(arguments[0]), None
    try:
        return Run(plans, run_dir, memory_limit).execute()
    except MemoryError:
        with contextlib.suppress(MemoryError):
            tell("failed", code="out_of_memory", message="the memory did not suffice")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        tell("failed", code="no_space", message="the disk is full")
    return 1


if __name__ == "__main__":
    sys.exit(main())
