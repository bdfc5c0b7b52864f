"""`foretrain up` as a person runs it: a process of its own, in a data folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.processes import Watch, command_of, descendants, eventually

DEADLINE = 60.0


class Service:
    """One running `foretrain up`."""

    def __init__(self, data_dir: Path, process: subprocess.Popen[str]) -> None:
        self.data_dir = data_dir
        self.process = process

    @property
    def url(self) -> str:
        return (self.data_dir / "run" / "url").read_text().strip()

    @property
    def key(self) -> str:
        return (self.data_dir / "api_key").read_text().strip()

    def pids(self) -> list[int]:
        return [self.process.pid, *descendants(self.process.pid)]

    def pid_of(self, program: str) -> int:
        """Of the descendant whose command holds the word, as soon as there is one."""
        return eventually(
            lambda: next((pid for pid in descendants(self.process.pid) if program in command_of(pid)), None),
            DEADLINE,
        )

    def stop(self, number: signal.Signals) -> int:
        """Its exit code; fails unless all its processes end."""
        watches = [Watch(pid) for pid in self.pids()]
        self.process.send_signal(number)
        code = self.process.wait(DEADLINE)
        assert all(watch.ends_within(1.0) for watch in watches)
        return code


class Launcher:
    """Starts services that end with the stack; `environment` comes on top of ours."""

    def __init__(self, stack: ExitStack, environment: dict[str, str] | None = None) -> None:
        self._stack = stack
        self._environment = environment or {}

    def launch(self, data_dir: Path, *options: str) -> subprocess.Popen[str]:
        """`foretrain up`, not yet ready."""
        command = [
            sys.executable,
            "-P",
            "-m",
            "foretrain",
            "up",
            "--data-dir",
            str(data_dir),
            "--port",
            "0",
            *options,
        ]
        quick = {"FORETRAIN_SWEEP_SECONDS": "0.5", "FORETRAIN_HEARTBEAT_SECONDS": "0.5"}
        process = subprocess.Popen(
            command,
            env=os.environ | quick | self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        return process

    def start(self, data_dir: Path, *options: str) -> Service:
        """`foretrain up`, answering requests."""
        url_file = data_dir / "run" / "url"
        url_file.unlink(missing_ok=True)  # a killed one leaves it
        service = Service(data_dir, self.launch(data_dir, *options))
        eventually(lambda: url_file.exists() or service.process.poll() is not None, DEADLINE)
        assert service.process.poll() is None, service.process.communicate()[1]
        return service
