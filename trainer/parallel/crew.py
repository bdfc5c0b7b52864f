"""The other processes of a training on several devices: started, told what to do, watched, ended."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import torch

from trainer.errors import OutOfMemory, RankLost, TrainerError, named_failure
from trainer.memory import memory_limit
from trainer.observer import StopRequested
from trainer.parallel.follower import OUT_OF_MEMORY
from trainer.parallel.orders import IDENTITY, READY, Attempt, Task
from trainer.parallel.ranks import joined
from trainer.pipe import end_likewise
from trainer.state import save_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from trainer.hardware import Hardware
    from trainer.parallel.ranks import Ranks
    from trainer.prepare import PreparedRun
    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec
    from trainer.state import TrainingState

FOLLOWER = (sys.executable, "-P", "-m", "trainer.parallel.follower")
FAREWELL_SECONDS = 10.0  # for followers to end by themselves, after all is done
VERDICT_SECONDS = 5.0  # for a follower's end to be known, after the talk with it broke off
# After a follower's end the leader has to be out of its wait for it; else it ends without having its say.
WAY_OUT_SECONDS = 30.0


class Crew:
    """The followers of a training, which the leader calls to work for each attempt at it.

    What they need of files lies in a folder of their own in `out_dir`, and is gone with them.
    Processes are started ahead, for their libraries take seconds to load. Each attempt has its own: after a
    failure nobody knows what they hold. Alone, a leader has no followers and nothing happens here. When the
    context is left none of them is alive; should this process die, however it dies, they read the end of
    their stdin and do so too.
    """

    def __init__(
        self, spec: TrainingSpec, data: DatasetFile, hardware: Hardware, ranks: Ranks, out_dir: Path
    ) -> None:
        self.ranks = ranks
        self._task_of = partial(Task.of, spec, data, hardware)
        self._out_dir = out_dir
        self._tasks: list[Task] = []
        self._followers: list[_Follower] = []
        self._files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.ranks.count > 1:
            self._out_dir.mkdir(parents=True, exist_ok=True)
            own = tempfile.TemporaryDirectory(prefix=".ranks-", dir=self._out_dir, ignore_cleanup_errors=True)
            self._folder = Path(self._files.enter_context(own))
            others = [type(self.ranks)(number, self.ranks.count) for number in range(1, self.ranks.count)]
            limit = memory_limit()
            self._tasks = [self._task_of(rank, limit, self._folder) for rank in others]
            self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss(0.0)
        self._files.close()

    @contextmanager
    def at_work(self, run: PreparedRun, state: TrainingState | None) -> Iterator[None]:
        """All ranks train `run` from `state` while this lasts; the leader's share is the block.

        Raises what the block raises; OutOfMemory where a follower's memory did not suffice, RankLost where
        one has ended otherwise.
        """
        if self.ranks.count == 1:
            yield
            return
        patience = 0.0
        try:
            with _shared_threads(self.ranks), tempfile.TemporaryDirectory(dir=self._folder) as name:
                attempt = self._call(run, state, Path(name))
                with joined(self.ranks, attempt.meeting, run.device), self._watched():
                    yield
            patience = FAREWELL_SECONDS
        except (TrainerError, StopRequested):
            raise
        except Exception as error:
            if isinstance(named_failure(error, batch_size=run.spec.batch_size), OutOfMemory):
                raise
            loss = self._loss()
            if loss is None:
                raise
            raise loss from error
        finally:
            self._dismiss(patience)

    def _start(self) -> None:
        for task in self._tasks:
            follower = _Follower()
            self._followers.append(follower)
            follower.send(task)

    def _call(self, run: PreparedRun, state: TrainingState | None, folder: Path) -> Attempt:
        """Tells the followers what to do, and waits until they are about to.

        Raises EOFError where one ends before.
        """
        if not self._followers:
            self._start()
        kept = None
        if state is not None:
            kept = folder / "state.safetensors"
            save_state(kept, state, IDENTITY)
        attempt = Attempt(
            adaptation=run.adaptation,
            state=kept,
            meeting=folder / "meeting",
            threads=torch.get_num_threads(),
        )
        for follower in self._followers:
            follower.send(attempt)
        for follower in self._followers:
            follower.await_ready()
        return attempt

    def _dismiss(self, patience_seconds: float) -> None:
        deadline = time.monotonic() + patience_seconds
        for follower in self._followers:
            follower.end(max(deadline - time.monotonic(), 0.0))
        self._followers = []

    def _loss(self) -> OutOfMemory | RankLost | None:
        """Why followers have ended, the most telling reason first; None if all are alive."""
        deadline = time.monotonic() + VERDICT_SECONDS
        codes = [follower.wait(max(deadline - time.monotonic(), 0.0)) for follower in self._followers]
        lost = {number: code for number, code in enumerate(codes, start=1) if code}
        for number, code in lost.items():
            if code == OUT_OF_MEMORY:
                return OutOfMemory(f"memory did not suffice on rank {number} of {self.ranks.count}")
        # A rank that was killed takes others with it, which then fail by themselves.
        killed = {number: code for number, code in lost.items() if code < 0}
        for number, code in (killed | lost).items():
            return RankLost(number, code)
        return None

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Sees to it that a follower's end ends the leader's wait for it, one way or the other."""
        over = threading.Event()
        for follower in self._followers:
            threading.Thread(target=_end_after, args=(follower, over), name="rank", daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _end_after(follower: _Follower, over: threading.Event) -> None:
    code = follower.wait(None)
    if code and not over.wait(WAY_OUT_SECONDS):
        print("a rank has ended, and the wait for it does not; ending too", file=sys.stderr)  # noqa: T201 - the log
        end_likewise(code)


class _Follower:
    def __init__(self) -> None:
        self._process = subprocess.Popen(FOLLOWER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def send(self, order: BaseModel) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: who waits for it will see
            stdin = _opened(self._process.stdin)
            stdin.write(order.model_dump_json().encode() + b"\n")
            stdin.flush()

    def await_ready(self) -> None:
        if _opened(self._process.stdout).readline() != READY:
            raise EOFError("a rank has ended before it was ready")

    def wait(self, seconds: float | None) -> int | None:
        """Its return code, as subprocess has it; None if it is alive after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self, patience_seconds: float) -> None:
        self.wait(patience_seconds)
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _opened(pipe).close()


def _opened(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the follower was started without this pipe")
    return pipe


@contextmanager
def _shared_threads(ranks: Ranks) -> Iterator[None]:
    """The threads of this process are for all ranks while they work."""
    own = torch.get_num_threads()
    torch.set_num_threads(max(own // ranks.count, 1))
    try:
        yield
    finally:
        torch.set_num_threads(own)
