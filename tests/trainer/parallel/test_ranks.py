"""How a batch is shared out, without a second process."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from trainer.batches import SHARE, WindowBatches
from trainer.parallel.ranks import ALONE, AgreedObserver, Ranks


@pytest.mark.parametrize("size", [0, 1, 2, 7, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_of_it_in_order_and_differ_by_one_at_most(size: int, count: int) -> None:
    shares = [Ranks(own, count).share_of(size) for own in range(count)]

    assert shares[0].start == 0
    assert shares[-1].stop == size
    assert all(before.stop == after.start for before, after in pairwise(shares))
    lengths = {share.stop - share.start for share in shares}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("gap", [False, True])
def test_the_parts_of_a_batch_are_its_windows_and_their_shares_its_whole(
    prepared: Any, make_series: Any, gap: bool
) -> None:
    run = prepared(make_series([40, 30], ("cpu_percent",)), gap=gap)
    draw = partial(
        WindowBatches, run.source, run.split.train, 7, shuffle_seed=3, at_most=22, unknown_share=0.5
    )
    whole = list(draw())
    parts = [list(draw(ranks=Ranks(own, 3))) for own in range(3)]

    assert {len(own) for own in parts} == {len(whole)}
    for (x, (actual, weights)), *shared in zip(whole, *parts, strict=True):
        there = [(x, y) for x, y in shared if x[SHARE] > 0]
        assert sum(float(own[SHARE]) for own, _ in shared) == pytest.approx(1.0)
        assert torch.equal(torch.cat([own["encoder_cat"] for own, _ in there]), x["encoder_cat"])
        assert torch.equal(torch.cat([own for _, (own, _) in there]), actual)
        if weights is not None:
            assert torch.equal(torch.cat([own for _, (_, own) in there]), weights)
    idle = [y for x, y in parts[0] if x[SHARE] == 0]
    assert [float(weights.sum()) for _, weights in idle] == [0.0]


def test_what_a_rank_draws_depends_on_the_place_and_on_the_rank() -> None:
    ranks = (Ranks(0, 2), Ranks(1, 2))
    seeds = [rank.seed_of(1, 2, window) for rank in ranks for window in (0, 7)]

    assert len(set(seeds)) == 4
    assert seeds == [rank.seed_of(1, 2, window) for rank in ranks for window in (0, 7)]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_alone_nobody_is_asked(make_observer: Any) -> None:
    values = torch.ones(3)
    ALONE.add_up(values)
    ALONE.check_in_step(values)

    assert ALONE.agree(4) == 4
    assert values.tolist() == [1.0, 1.0, 1.0]
    assert AgreedObserver(make_observer(wish="drain", at_step=-1), ALONE).stop_wish() == "drain"
    assert AgreedObserver(None, ALONE).stop_wish() is None
