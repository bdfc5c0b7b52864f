"""Who watches a training run: hears its events and may wish it to stop. Torch-free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trainer.events import TrainerEvent, Wish


class Observer(Protocol):
    """One watcher. Both methods are called from the training thread and must not block."""

    def report(self, event: TrainerEvent) -> None: ...

    def stop_wish(self) -> Wish | None: ...


class StopRequested(Exception):
    """The observer wishes the run to end now; `step` is the optimizer step it ended at."""

    def __init__(self, wish: Wish, step: int) -> None:
        super().__init__(wish)
        self.wish = wish
        self.step = step


def obey_stop_wish(observer: Observer, step: int = 0) -> None:
    """Raise StopRequested if the observer wishes to end the run. `time_limit` is no such wish."""
    wish = observer.stop_wish()
    if wish is not None and wish != "time_limit":
        raise StopRequested(wish, step)
