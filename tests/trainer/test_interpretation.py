from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from trainer.interpretation import POSITION, Interpretation, history_blocks, interpret
from trainer.observer import StopRequested

if TYPE_CHECKING:
    from trainer.prepare import PreparedRun

TARGETS = ("cpu_percent", "memory_percent")


def look_into(run: PreparedRun, **changes: Any) -> Interpretation:
    usual: dict[str, Any] = {"forwards": 10**6, "seed": 1}
    return interpret(run.model, run.source, run.split.validation, 8, **(usual | changes))


def read_only_own_last_value(run: PreparedRun) -> None:
    """Make the network forecast each target's last value, and nothing else."""
    own = [run.layout.reals.index(inside) for inside in run.layout.target_inputs]
    quantiles, forward = len(run.spec.quantiles), run.model.forward

    def last_values(x: dict[str, Any]) -> Any:
        seen: dict[str, Any] = dict(forward(x).items())
        last = [x["encoder_cont"][:, -1, column] for column in own]
        ahead = x["decoder_cont"].shape[1]
        seen["prediction"] = [value[:, None, None].expand(-1, ahead, quantiles) for value in last]
        return seen

    run.model.forward = last_values  # type: ignore[method-assign]


def test_only_what_a_target_is_forecast_from_is_important_for_it(prepare_small: Any) -> None:
    run = prepare_small()
    read_only_own_last_value(run)

    found = look_into(run)

    for name, other in (TARGETS, TARGETS[::-1]):
        importance = found.targets[name].importance
        assert (importance["encoder"][name] or 0.0) > 0.05
        assert importance["encoder"][other] == 0.0
        assert importance["encoder"]["hour_of_day"] == 0.0
        assert importance["decoder"] == {"hour_of_day": 0.0}
        assert importance["static"] == {"server": 0.0}


def test_only_the_stretch_of_history_that_is_read_is_important(prepare_small: Any) -> None:
    run = prepare_small()
    read_only_own_last_value(run)

    found = look_into(run).targets["cpu_percent"]

    assert found.history[-1].newest == found.history[-1].oldest == 1
    assert found.history[-1].rise == found.importance["encoder"]["cpu_percent"]
    assert all(block.rise == 0.0 for block in found.history[:-1])


def test_the_loss_is_the_validation_loss_of_each_target_in_scaled_space(prepare_small: Any) -> None:
    run = prepare_small(normalizer="none")  # scaled space and original units are the same there
    run.model.on_validation_epoch_start()
    run.model.eval()
    with torch.inference_mode():
        for index, batch in enumerate(run.validation_batches):
            run.model.validation_step(batch, index)

    found = look_into(run)

    assert found.windows == run.split.validation.total
    losses = [found.targets[name].loss for name in TARGETS]
    assert losses == pytest.approx(run.model.validation.per_target(), rel=1e-5)


def test_shared_weights_add_up_to_one_and_carry_the_datasets_names(prepare_small: Any) -> None:
    run = prepare_small()

    found = look_into(run)

    assert set(found.selection["encoder"]) == {*TARGETS, "hour_of_day", POSITION}
    assert set(found.selection["decoder"]) == {"hour_of_day", POSITION}
    assert set(found.selection["static"]) == {"server"}
    assert all(sum(shares.values()) == pytest.approx(1.0) for shares in found.selection.values())
    assert len(found.attention) == run.spec.encoder_length
    assert sum(found.attention) == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_numbers_and_leaves_training_alone(prepare_small: Any) -> None:
    run = prepare_small()
    weights = {name: weight.clone() for name, weight in run.model.state_dict().items()}
    generator = torch.get_rng_state()

    first, again, other = look_into(run), look_into(run), look_into(run, seed=2)

    assert asdict(first) == asdict(again)
    assert first.targets["cpu_percent"] != other.targets["cpu_percent"]
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(weight, weights[name]) for name, weight in run.model.state_dict().items())


def test_few_forwards_mean_few_windows_and_a_stop_wish_is_heard(prepare_small: Any) -> None:
    run = prepare_small(validation_split=0.4)
    assert run.split.validation.total > 32

    assert look_into(run, forwards=1).windows == 32

    def stop() -> None:
        raise StopRequested("cancel", 3)

    with pytest.raises(StopRequested):
        look_into(run, between_batches=stop)


def test_a_single_window_has_no_other_to_be_shuffled_with(prepare_small: Any) -> None:
    run = prepare_small()
    validation = run.split.validation
    alone = replace(
        validation,
        series=validation.series[:1],
        first_origin=validation.first_origin[:1],
        counts=validation.counts[:1] * 0 + 1,
    )

    found = interpret(run.model, run.source, alone, 8, forwards=1000, seed=1).targets["cpu_percent"]

    assert found.importance == {"encoder": {}, "decoder": {}, "static": {}}
    assert found.history == []
    assert found.loss is not None


@pytest.mark.parametrize("length", [2, 6, 48, 2048])
def test_blocks_cover_the_history_once_from_the_oldest_step_to_the_newest(length: int) -> None:
    blocks = history_blocks(length)

    steps = [step for oldest, newest in blocks for step in range(oldest, newest - 1, -1)]

    assert steps == list(range(length, 0, -1))
    assert len(blocks) <= 12
    assert blocks[-1] == (1, 1)
