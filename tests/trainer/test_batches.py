from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from trainer.batches import WindowBatches, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.prepare import PreparedRun

    PrepareSmall = Callable[..., PreparedRun]


def batches_of(run: PreparedRun, batch_size: int, **drawn: Any) -> WindowBatches:
    return WindowBatches(run.source, run.split.train, batch_size, **drawn)


def test_windows_of_an_epoch_are_all_drawn_once_and_the_last_batch_is_kept(
    prepare_small: PrepareSmall,
) -> None:
    run = prepare_small()
    total = run.split.train.total
    batches = batches_of(run, 32, shuffle_seed=1)

    drawn = [x for x, _ in batches]
    seen = {
        (int(series), int(step))
        for x in drawn
        for series, step in zip(x["groups"], x["decoder_time_idx"][:, 0], strict=True)
    }

    assert [len(x["groups"]) for x in drawn] == [32, total - 32]
    assert len(batches) == 2
    assert len(seen) == total


def test_epochs_differ_in_order_and_a_seed_repeats_them(prepare_small: PrepareSmall) -> None:
    run = prepare_small()

    def order(epoch: int, seed: int) -> list[int]:
        batches = batches_of(run, 8, shuffle_seed=seed, at_most=40, unknown_share=0.5)
        batches.set_epoch(epoch)
        return [
            int(v) for x, _ in batches for v in (*x["decoder_time_idx"][:, 0], *x["encoder_cat"][:, 0, 0])
        ]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)
    assert len(order(0, 1)) == 2 * 40


def test_some_windows_hide_their_categories_so_that_the_unknown_is_trained(
    prepare_small: PrepareSmall,
) -> None:
    run = prepare_small()
    codes = []
    for epoch in range(20):
        batches = batches_of(run, 100, shuffle_seed=1, unknown_share=0.1)
        batches.set_epoch(epoch)
        codes += [x["encoder_cat"][:, 0, 0] for x, _ in batches]
    drawn = torch.cat(codes)

    assert set(drawn.tolist()) == {0, 1, 2}
    assert 0.05 < (drawn == 0).float().mean() < 0.15


def test_some_of_many_are_taken_at_even_distances() -> None:
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(101, 5).tolist() == [0, 25, 50, 75, 100]
