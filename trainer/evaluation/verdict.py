"""Is the model better than a rival, or does it only look so? A paired bootstrap on q-risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWEST_SERIES = 10
FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class WindowLosses:
    """Sums over the steps of each window, (n,): what q-risk and MAE are the ratios of."""

    model: Floats  # twice the quantile loss, mean over the scored quantiles
    rival: Floats
    size: Floats  # |y|
    model_error: Floats  # |y - median|
    rival_error: Floats
    count: Floats  # observed steps


def judge(
    losses: WindowLosses, series_index: IntArray, origin_row: IntArray, horizon: int, seed: int
) -> dict[str, Any]:
    """`better`, `worse` or `inconclusive`, with the interval of the difference in q-risk, model minus rival.

    Resampled are series and, within each, blocks of consecutive windows at least one horizon long; with fewer
    than 10 series blocks alone; with fewer than 8 blocks in all nothing can be said.
    """
    block_of, block_series = _blocks(series_index, origin_row, horizon)
    sums = _block_sums(losses, block_of, len(block_series))
    series_count = len(np.unique(block_series))
    answer: dict[str, Any] = {
        "verdict": "inconclusive",
        "q_risk_difference": _number(_difference(sums[0].sum(), sums[1].sum())),
        "interval": None,
        "confidence": CONFIDENCE,
        "mae_difference": _number(_difference(sums[2].sum(), losses.count.sum())),
        "series": series_count,
        "blocks": len(block_series),
        "resampled": "series and blocks" if series_count >= FEWEST_SERIES else "blocks",
        "reason": None,
    }
    if len(block_series) < FEWEST_BLOCKS:
        return answer | {
            "reason": f"only {len(block_series)} blocks of windows, at least {FEWEST_BLOCKS} are needed"
        }
    if not sums[1].any():
        return answer | {"reason": "every observed value is zero or masked, so q-risk is not defined"}
    generator = np.random.default_rng(seed)
    draw = _draw_series if series_count >= FEWEST_SERIES else _draw_blocks
    differences = np.array(
        [_difference(*sums[:2, draw(generator, block_series)].sum(axis=1)) for _ in range(RESAMPLES)]
    )
    low, high = np.nanquantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return answer | _decide(float(low), float(high))


def _decide(low: float, high: float) -> dict[str, Any]:
    interval = {"interval": [low, high]}
    if high < 0:
        return interval | {"verdict": "better"}
    if low > 0:
        return interval | {"verdict": "worse"}
    return interval | {"reason": f"the {CONFIDENCE:.0%} interval of the difference holds zero"}


def _blocks(series_index: IntArray, origin_row: IntArray, horizon: int) -> tuple[IntArray, IntArray]:
    """Block of each window (n,), and the series of each block (n_blocks,), ascending.

    Origins of a block span at least one horizon; what is left at the end of a series joins its last block.
    """
    order = np.lexsort((origin_row, series_index))
    series, origins = series_index[order], origin_row[order]
    starts = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])
    run = np.cumsum(np.r_[True, series[1:] != series[:-1]]) - 1
    last = origins[np.r_[starts[1:], len(series)] - 1]
    whole = np.maximum((last - origins[starts] + 1) // horizon, 1)
    within = np.minimum((origins - origins[starts][run]) // horizon, whole[run] - 1)
    new = np.r_[True, (run[1:] != run[:-1]) | (within[1:] != within[:-1])]
    block_of = np.empty(len(order), np.int64)
    block_of[order] = np.cumsum(new) - 1
    return block_of, series[new]


def _block_sums(losses: WindowLosses, block_of: IntArray, blocks: int) -> Floats:
    """(3, blocks): q-risk numerators, model minus rival; |y|; absolute errors, model minus rival."""
    parts = (losses.model - losses.rival, losses.size, losses.model_error - losses.rival_error)
    return np.stack([np.bincount(block_of, part, blocks) for part in parts])


def _draw_blocks(generator: np.random.Generator, block_series: IntArray) -> IntArray:
    return generator.integers(0, len(block_series), len(block_series))


def _draw_series(generator: np.random.Generator, block_series: IntArray) -> IntArray:
    starts = np.flatnonzero(np.r_[True, block_series[1:] != block_series[:-1]])
    counts = np.diff(np.r_[starts, len(block_series)])
    drawn = generator.integers(0, len(starts), len(starts))
    sizes = np.repeat(counts[drawn], counts[drawn])
    within = (generator.random(len(sizes)) * sizes).astype(np.int64)
    return np.asarray(np.repeat(starts[drawn], counts[drawn]) + within)


def _difference(loss: float, size: float) -> float:
    return loss / size if size > 0 else float("nan")


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
