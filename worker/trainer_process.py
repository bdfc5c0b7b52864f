"""The trainer child: started in a session of its own, heard line by line, stopped by a wish or killed."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Self

import structlog
from pydantic import ValidationError

from trainer.events import TrainerEvent, parse_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trainer.events import Wish

logger = structlog.get_logger(__name__)

_LONGEST_LINE_BYTES = 1 << 20
_INHERITED = {
    *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"),
    *("CC", "XDG_CACHE_HOME", "MPLCONFIGDIR", "FORETRAIN_CHECKPOINT_SECONDS", "FORETRAIN_KERNELS"),
}
_INHERITED_PREFIXES = ("CUDA_", "KMP_", "LC_", "LD_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "PYTORCH_", "TORCH")


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child may know of our environment: how to compute, never where the service keeps its secrets."""
    return {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }


@dataclass(frozen=True)
class Order:
    """What to run and with how much; `memory_limit` is in bytes, `memory_kills` counts earlier attempts."""

    run_dir: Path
    threads: int
    memory_limit: int | None = None
    memory_kills: int = 0

    def arguments(self) -> list[str]:
        """For a child that starts with its run."""
        limit = [] if self.memory_limit is None else ["--memory-limit", str(self.memory_limit)]
        kills = ["--memory-kills", str(self.memory_kills)] if self.memory_kills else []
        return [str(self.run_dir), "--threads", str(self.threads), *limit, *kills]

    def message(self) -> dict[str, object]:
        """For a child that was started ahead of its run."""
        return asdict(self) | {"run_dir": str(self.run_dir)}


@dataclass(frozen=True)
class Ending:
    """How the child ended: `return_code` as subprocess gives it (negative is a signal)."""

    return_code: int
    killed: bool  # by us, after the grace or because the lease was lost

    def describe(self) -> str:
        if self.return_code >= 0:
            return f"exit code {self.return_code}"
        try:
            return signal.Signals(-self.return_code).name
        except ValueError:
            return f"signal {-self.return_code}"


class TrainerProcess:
    """One run of the trainer. Use as a context manager: when it is left, nothing of the child is alive.

    The child holds the read end of our pipe as its stdin; should this process die, however it dies, the child
    reads the end of it and exits by itself.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        """Starts `command` in `directory`; `log` gets pieces of its stderr, from a thread of its own."""
        self._process = subprocess.Popen(
            list(command),
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._killed = False
        self._kill_at: float | None = None
        self._kill_timer: threading.Timer | None = None
        self._log_pump = _start_thread("trainer-log", _pump_log, _opened(self._process.stderr), log)
        self._reaper = _start_thread("trainer-reaper", self._sweep_group_after_leader)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def begin(self, order: Order) -> None:
        """Tells a child that was started ahead of its run what to run."""
        self._send(order.message())

    def events(self) -> Iterator[TrainerEvent]:
        """Every event, until the child closes its stdout; a line that is no event is logged and dropped."""
        stdout = _opened(self._process.stdout)
        while line := stdout.readline(_LONGEST_LINE_BYTES):
            if not line.endswith(b"\n"):
                _drop_rest_of_line(stdout, line)
                continue
            try:
                yield parse_event(line)
            except ValidationError as error:
                logger.warning(
                    "trainer_line_dropped",
                    line=line[:200].decode(errors="replace"),
                    errors=error.error_count(),
                )

    def stop(self, wish: Wish, grace_seconds: float) -> None:
        """Asks the child to save and end; kills it unless it has ended after `grace_seconds`."""
        with self._lock:
            self._send({"stop": wish})
            self._kill_after(grace_seconds)

    def kill(self) -> None:
        """Ends the child and whatever it started in its session, at once."""
        if not self._ended.is_set():
            self._killed = True
            self._kill_group()

    def wait(self) -> Ending:
        """Waits for the end of the child; call it once `events()` has run dry."""
        return_code = self._process.wait()
        self._reaper.join()
        self._log_pump.join()
        return Ending(return_code, killed=self._killed and return_code == -signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves nothing of the child alive, and no pipe open."""
        self.kill()
        self.wait()
        with self._lock:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(BrokenPipeError):  # a wish was still in the buffer
                    _opened(pipe).close()

    def _send(self, message: dict[str, object]) -> None:
        with contextlib.suppress(
            OSError, ValueError
        ):  # it has closed its end, or we ours: it is ending anyway
            stdin = _opened(self._process.stdin)
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()

    def _kill_after(self, seconds: float) -> None:
        kill_at = time.monotonic() + seconds
        if self._kill_at is not None and self._kill_at <= kill_at:
            return
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_at = kill_at
        self._kill_timer = threading.Timer(seconds, self.kill)
        self._kill_timer.daemon = True
        self._kill_timer.start()

    def _sweep_group_after_leader(self) -> None:
        # A data loading process that outlives the trainer would hold our pipes open: events() would not end.
        self._process.wait()
        self._kill_group()
        self._ended.set()

    def _kill_group(self) -> None:
        # macOS answers "not permitted" for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the trainer was started without this pipe")
    return pipe


def _start_thread(name: str, target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread


def _pump_log(stderr: IO[bytes], log: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while piece := os.read(stderr.fileno(), 65536):
        log(decoder.decode(piece))


def _drop_rest_of_line(stdout: IO[bytes], start: bytes) -> None:
    logger.warning("trainer_line_too_long", line=start[:200].decode(errors="replace"))
    while (rest := stdout.readline(_LONGEST_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass
