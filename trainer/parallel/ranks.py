"""Which of the processes of a training this one is, and what they tell each other.

Every rank runs the same code and asks the same questions in the same order; each call here waits for all.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
import torch.distributed as dist

from trainer.events import Wish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from trainer.events import TrainerEvent
    from trainer.observer import Observer

# Others wait while the first one writes what is to be kept. A supervisor's patience is longer (1800 s).
PATIENCE = timedelta(minutes=20)
_WISHES: tuple[Wish | None, ...] = (None, *get_args(Wish))


@dataclass(frozen=True)
class Ranks:
    """This process's number, from 0, and how many there are. Alone, it waits for nobody."""

    own: int = 0
    count: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether it is the one that is heard and seen: it alone has a supervisor and writes files."""
        return self.own == 0

    def share_of(self, size: int) -> slice:
        """Its part of so many things in a row; the parts differ by one at most, and may be empty."""
        return slice(size * self.own // self.count, size * (self.own + 1) // self.count)

    def add_up(self, values: Tensor) -> None:
        """Put the sum over all ranks in the place of `values`: the same bits everywhere."""
        if self.count > 1:
            dist.all_reduce(values)

    def agree(self, number: int) -> int:
        """The leader's number."""
        if self.count == 1:
            return number
        said = torch.tensor(number, dtype=torch.int64)
        dist.broadcast(said, src=0)
        return int(said)

    def check_in_step(self, weights: Tensor) -> None:
        """Raise RuntimeError unless `weights`, float32, are the leader's to the last bit, by their sum."""
        own = int(weights.detach().view(torch.int32).sum(dtype=torch.int64))
        if self.agree(own) != own:
            raise RuntimeError(f"the weights of rank {self.own} have parted from those of rank 0")

    def seed_of(self, *place: int) -> int:
        """For this rank's own draws at a place in the training, whatever was drawn before."""
        state = np.random.SeedSequence([*place, self.own]).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(1))


ALONE = Ranks()


class AgreedObserver:
    """The leader's observer, to be asked by every rank: all hear the same wish, the leader alone reports."""

    def __init__(self, observer: Observer | None, ranks: Ranks) -> None:
        self._observer, self._ranks = observer, ranks

    def report(self, event: TrainerEvent) -> None:
        if self._observer is not None:
            self._observer.report(event)

    def stop_wish(self) -> Wish | None:
        own = None if self._observer is None else self._observer.stop_wish()
        return _WISHES[self._ranks.agree(_WISHES.index(own))]


@contextmanager
def joined(ranks: Ranks, meeting: Path, device: torch.device) -> Iterator[None]:
    """While this lasts the ranks can talk; they find each other by the file `meeting`, which none has yet.

    Over this machine's loopback and, on GPUs, NCCL. Raises RuntimeError where another rank has gone.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=dist.FileStore(str(meeting), ranks.count),  # type: ignore[attr-defined] # documented, though
        rank=ranks.own,
        world_size=ranks.count,
        timeout=PATIENCE,
    )
    try:
        yield
        ranks.agree(0)  # nobody leaves while another is still talking
    except BaseException:
        group = dist.group.WORLD
        if group is not None and device.type == "cuda":
            group.abort()  # what waits for a rank that has gone would wait for ever
        raise
    finally:
        dist.destroy_process_group()


def _loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.startswith("lo")), names[0])
