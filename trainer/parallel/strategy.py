"""Lightning's DDP, without what it does per parameter: the model adds up its one gradient itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

if TYPE_CHECKING:
    from trainer.parallel.ranks import Ranks


class FlatDDP(DDPStrategy):
    """Devices, precision and ranks are Lightning's; processes and their group are there already.

    The model is not wrapped: all gradients lie in one tensor, which `ForecastModel.on_after_backward` adds up
    once an optimizer step.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(cluster_environment=_OneMachine(ranks))

    def _configure_launcher(self) -> None:
        """No launcher: Lightning's would start this very program once more."""

    def configure_ddp(self) -> None:
        """No wrapper."""


class _OneMachine(ClusterEnvironment):
    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise NotImplementedError("the ranks have met by a file")

    @property
    def main_port(self) -> int:
        raise NotImplementedError("the ranks have met by a file")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._ranks.count

    def set_world_size(self, size: int) -> None:
        """Known from the start."""

    def global_rank(self) -> int:
        return self._ranks.own

    def set_global_rank(self, rank: int) -> None:
        """Known from the start."""

    def local_rank(self) -> int:
        return self._ranks.own

    def node_rank(self) -> int:
        return 0
