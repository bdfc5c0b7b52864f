"""What a trained network goes by.

Its variable selection and its attention are shared by all targets, so they cannot say what one target hangs
on. That is measured: an input is shuffled between windows, and the rise of each target's own loss is its
importance for that target (permutation importance: Breiman 2001; Fisher, Rudin and Dominici 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from trainer.batches import spread
from trainer.clock import calendar_names
from trainer.layout import RELATIVE_TIME
from trainer.loss import quantile_loss, stacked

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from trainer.layout import Layout
    from trainer.model import ForecastModel
    from trainer.split import Windows
    from trainer.windows import Batch, WindowSource

FloatArray = npt.NDArray[np.float64]
Kind = Literal["encoder", "decoder", "static"]
KINDS: tuple[Kind, ...] = ("encoder", "decoder", "static")
MOST_WINDOWS = 512
FEWEST_WINDOWS = 32
MOST_BLOCKS = 12
POSITION = "position in the window"


@dataclass(frozen=True)
class Block:
    """A stretch of the history, in steps before the forecast, both ends included; 1 is the newest step."""

    oldest: int
    newest: int
    rise: float | None


@dataclass(frozen=True)
class TargetInterpretation:
    """What one target's forecasts hang on. A rise of .25 says: without it the loss is a quarter higher.

    None where nothing was observed or the loss is zero; empty where there is no second window to shuffle.
    """

    loss: float | None  # mean quantile loss in scaled space, nothing shuffled
    importance: dict[Kind, dict[str, float | None]]  # input -> rise
    history: list[Block]  # oldest first


@dataclass(frozen=True)
class Interpretation:
    """Shared weights, each kind and the attention adding up to 1, and each target's own dependence."""

    windows: int  # validation windows looked into
    selection: dict[Kind, dict[str, float]]  # input -> share
    attention: list[float]  # over the encoder, oldest step first
    targets: dict[str, TargetInterpretation]


def interpret(
    model: ForecastModel,
    source: WindowSource,
    windows: Windows,
    batch_size: int,
    *,
    forwards: int,
    seed: int,
    between_batches: Callable[[], None] = lambda: None,
) -> Interpretation:
    """Look into at most 512 windows from all over the fleet, once as they are and once per shuffled input.

    Shuffled are: each input of the encoder and of the decoder over all its steps (sine and cosine of a
    calendar feature together), each static category, and for `history` all measured inputs within a block of
    steps. What is shuffled comes from another window drawn by `seed`, the same for every input, in scaled
    space: level and spread of a window's own history are not part of the inputs and stay. Inputs that tell
    the same stand in for each other, so that each looks less important than both are together.

    `forwards` is how many windows may go through the network in all; at least 32 are looked into nonetheless.
    The same weights, windows and seed give the same numbers on the same machine.
    """
    several = windows.total > 1
    inputs = _input_shuffles(source.layout) if several else {}
    blocks = _block_shuffles(source.layout, source.encoder_length) if several else {}
    affordable = max(forwards // (1 + len(inputs) + len(blocks)), FEWEST_WINDOWS)
    ordinals = spread(windows.total, min(affordable, MOST_WINDOWS))
    series, origins = (torch.from_numpy(part).to(source.device) for part in windows.locate(ordinals))
    sample = _Sample(model, source.batch(series, origins), batch_size, seed, between_batches)
    model.eval()
    with torch.inference_mode():
        losses, weights = sample.look()
        input_rises = {key: _rises(sample.losses(shuffle), losses) for key, shuffle in inputs.items()}
        block_rises = {key: _rises(sample.losses(shuffle), losses) for key, shuffle in blocks.items()}
    return Interpretation(
        windows=len(ordinals),
        selection={kind: _named(_names(source.layout, model, kind), weights[kind]) for kind in KINDS},
        attention=_shares(weights["attention"]).tolist(),
        targets={
            target: TargetInterpretation(
                loss=_finite(losses[place]),
                importance={
                    kind: {name: rise[place] for (its, name), rise in input_rises.items() if its == kind}
                    for kind in KINDS
                },
                history=[Block(*ends, rise[place]) for ends, rise in block_rises.items()],
            )
            for place, target in enumerate(source.layout.targets)
        },
    )


@dataclass(frozen=True)
class _Shuffle:
    """Which part of the network's inputs comes from another window."""

    tensors: tuple[str, ...]  # keys of the batch, each (B, T, columns)
    columns: list[int]
    first: int = 0  # step
    end: int | None = None  # exclusive

    def apply(self, x: dict[str, Any], part: slice, donors: Tensor) -> dict[str, Tensor]:
        """The tensors of the windows in `part`, shuffled; `donors` (B,) are the windows that give."""
        shuffled, steps = {}, slice(self.first, self.end)
        for name in self.tensors:
            shuffled[name] = x[name][part].clone()
            shuffled[name][:, steps, self.columns] = x[name][donors[part]][:, steps, self.columns]
        return shuffled


class _Sample:
    """Windows on the device, and what the network makes of them, a part at a time."""

    def __init__(
        self,
        model: ForecastModel,
        batch: Batch,
        batch_size: int,
        seed: int,
        between_batches: Callable[[], None],
    ) -> None:
        self._model, self._batch_size, self._between_batches = model, batch_size, between_batches
        self._x, (actual, weights) = batch
        centre, scale = stacked(self._x["target_scale"])[:, None].unbind(2)
        self._actual = (stacked(actual) - centre) / scale  # (B, H, K)
        self._weights = torch.ones_like(self._actual) if weights is None else stacked(weights)
        self._donors = torch.from_numpy(_donors(len(self._actual), seed)).to(self._actual.device)

    def look(self) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Each target's loss, (K,), and what selection and attention let through, summed over all else."""
        sums: dict[str, Any] = {}

        def note(seen: dict[str, Tensor]) -> None:
            for kind in KINDS:
                weights = seen[f"{kind}_variables"]
                # Static inputs have no time: (B, 1, V) or (B, V), the others (B, T, 1, V).
                sums[kind] = sums.get(kind, 0.0) + weights.flatten(0, -2).sum(0)
            sums["attention"] = sums.get("attention", 0.0) + seen["encoder_attention"].sum(dim=(0, 1, 2))

        losses = self.losses(None, note)
        return losses, {name: values.cpu().numpy().astype(np.float64) for name, values in sums.items()}

    def losses(
        self, shuffle: _Shuffle | None, note: Callable[[dict[str, Tensor]], None] = lambda _: None
    ) -> FloatArray:
        """Each target's mean quantile loss over the observed steps, scaled space, (K,)."""
        total = torch.zeros(self._actual.shape[-1], dtype=torch.float64, device=self._actual.device)
        for start in range(0, len(self._actual), self._batch_size):
            part = slice(start, start + self._batch_size)
            x = _part_of(self._x, part)
            if shuffle is not None:
                x |= shuffle.apply(self._x, part, self._donors)
            seen = self._model({**x, "target_scale": None})
            note(seen)
            losses = quantile_loss(stacked(seen["prediction"]), self._actual[part], self._model.levels)
            total += (losses * self._weights[part]).sum(dim=(0, 1), dtype=torch.float64)
            self._between_batches()
        return (total / self._weights.sum(dim=(0, 1), dtype=torch.float64)).cpu().numpy()


def _input_shuffles(layout: Layout) -> dict[tuple[Kind, str], _Shuffle]:
    """One for each input. The position in the window is the same in all windows: nothing to shuffle."""
    columns: dict[str, list[int]] = {}
    for place, inside in enumerate(layout.reals):
        columns.setdefault(_readable(layout)[inside], []).append(place)
    known = [*layout.calendar, *layout.known]
    shuffles: dict[tuple[Kind, str], _Shuffle] = {}
    for name in [*known, *layout.observed, *layout.targets]:
        shuffles["encoder", name] = _Shuffle(("encoder_cont",), columns[name])
    for name in known:
        shuffles["decoder", name] = _Shuffle(("decoder_cont",), columns[name])
    for place, name in enumerate(layout.statics):
        shuffles["static", name] = _Shuffle(("encoder_cat", "decoder_cat"), [place])
    return shuffles


def _block_shuffles(layout: Layout, encoder_length: int) -> dict[tuple[int, int], _Shuffle]:
    """One for each block of the history, by its first and last step before the forecast, oldest first."""
    measured = [layout.reals.index(inside) for inside in layout.unknown_inputs]
    return {
        (oldest, newest): _Shuffle(
            ("encoder_cont",), measured, encoder_length - oldest, encoder_length - newest + 1
        )
        for oldest, newest in history_blocks(encoder_length)
    }


def history_blocks(encoder_length: int) -> list[tuple[int, int]]:
    """The history in at most 12 blocks, longer the older they are: the newest steps tell most."""
    edges = np.unique(np.rint(np.geomspace(1, encoder_length + 1, MOST_BLOCKS + 1)).astype(np.int64)) - 1
    return [(int(far), int(near) + 1) for near, far in zip(edges[-2::-1], edges[:0:-1], strict=True)]


def _donors(count: int, seed: int) -> npt.NDArray[np.int64]:
    """For each window another one, drawn from the seed: one ring through all, so that none keeps its own."""
    order = np.random.default_rng(seed).permutation(count)
    donors = np.empty(count, dtype=np.int64)
    donors[order] = np.roll(order, 1)
    return donors


def _part_of(x: dict[str, Any], part: slice) -> dict[str, Any]:
    return {
        name: [one[part] for one in values] if isinstance(values, list) else values[part]
        for name, values in x.items()
    }


def _rises(shuffled: FloatArray, losses: FloatArray) -> list[float | None]:
    """By what share each target's loss rose."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return [_finite(rise) for rise in shuffled / losses - 1.0]


def _names(layout: Layout, model: ForecastModel, kind: Kind) -> list[str]:
    return [_readable(layout)[inside] for inside in getattr(model, f"{kind}_variables")]


def _readable(layout: Layout) -> dict[str, str]:
    """Name inside the network -> what it is called in reports, all inputs."""
    waves = {wave: feature for feature in layout.calendar for wave in calendar_names([feature])}
    return waves | {RELATIVE_TIME: POSITION} | layout.readable


def _named(names: list[str], weights: FloatArray) -> dict[str, float]:
    shares: dict[str, float] = {}
    for name, share in zip(names, _shares(weights), strict=True):
        shares[name] = shares.get(name, 0.0) + float(share)
    return shares


def _shares(weights: FloatArray) -> FloatArray:
    return weights / max(float(weights.sum()), 1e-12)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
