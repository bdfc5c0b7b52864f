"""A run that was interrupted ends bit for bit as if it had not been."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from trainer.errors import CannotResume
from trainer.keeping import RESUME_STATE, StateKeeper
from trainer.recipe import train
from trainer.state import TrainingState, load_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.dataset.series import SeriesData

    MakeSeries = Callable[..., SeriesData]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_undrawn")]

STEPS_PER_EPOCH = 4
CHANGES: dict[str, Any] = {
    "target_metrics": ["cpu", "net.in"],
    "epochs": 3,
    "accumulate_grad_batches": 2,
    "lr_schedule": "plateau",
    "log_every_n_steps": 3,
}


@pytest.fixture(scope="module", autouse=True)
def _progress_at_every_step() -> Iterator[None]:
    """So that an observer knows where a run stands, whatever it logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.reporting.PROGRESS_SECONDS", 0.0)
        yield


class Crash(Exception):
    pass


@pytest.fixture(scope="module")
def start(
    make_dataset: Any,
    make_series: MakeSeries,
    make_spec: Any,
    plain_cpu: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Any]:
    """Train on a small fleet into a folder; keyword arguments are those of `train`, `changes` the spec's."""
    data = make_dataset(
        make_series([90, 80], ("cpu", "net.in")), tmp_path_factory.mktemp("data") / "d.parquet"
    )

    def run(out_dir: Path, observer: Any, changes: dict[str, Any] | None = None, **arguments: Any) -> Any:
        spec = make_spec(**(CHANGES | (changes or {})))
        return train(spec, data, out_dir, observer, hardware=plain_cpu, **arguments)

    return run


@pytest.fixture(scope="module")
def uninterrupted(start: Any, make_observer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out_dir = tmp_path_factory.mktemp("whole")
    return start(out_dir, make_observer()), out_dir


def assert_the_same_run(result: Any, out_dir: Path, uninterrupted: Any) -> None:
    whole, whole_dir = uninterrupted
    for name in ("model.safetensors", RESUME_STATE):
        ours, theirs = load_file(out_dir / name), load_file(whole_dir / name)
        assert ours.keys() == theirs.keys()
        assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []
    for part in ("best", "loss_history", "scores", "steps", "epochs", "stop_reason", "bad_steps"):
        assert result.result[part] == whole.result[part], part


@pytest.mark.parametrize("step", [1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 3])
def test_a_paused_run_goes_on_bit_for_bit(
    start: Any, make_observer: Any, tmp_path: Path, uninterrupted: Any, step: int
) -> None:
    paused = start(tmp_path / "first", make_observer(wish="pause", at_step=step))
    result = start(tmp_path / "second", make_observer(), resume_from=tmp_path / "first" / RESUME_STATE)

    assert (paused.wish, paused.step) == ("pause", step)
    assert_the_same_run(result, tmp_path / "second", uninterrupted)


def test_epochs_before_and_after_a_pause_add_up_to_a_whole_run(
    start: Any, make_observer: Any, tmp_path: Path, uninterrupted: Any
) -> None:
    state = None
    for step in range(1, 3 * STEPS_PER_EPOCH, 3):
        start(tmp_path / str(step), make_observer(wish="drain", at_step=step), resume_from=state)
        state = tmp_path / str(step) / RESUME_STATE
    result = start(tmp_path / "last", make_observer(), resume_from=state)

    assert_the_same_run(result, tmp_path / "last", uninterrupted)


def test_a_crash_loses_no_more_than_what_came_after_the_last_state(
    start: Any, make_observer: Any, tmp_path: Path, uninterrupted: Any
) -> None:
    class Crashing(make_observer):  # type: ignore[misc] # a fixture
        def report(self, event: Any) -> None:
            super().report(event)
            if event.type == "metrics" and event.step == 2 * STEPS_PER_EPOCH:
                raise Crash

    crashing, again = Crashing(), make_observer()
    with pytest.raises(Crash):
        start(tmp_path, crashing, checkpoint_seconds=0.0)
    kept = [event.step for event in crashing.of_type("checkpoint") if event.name == RESUME_STATE]
    result = start(tmp_path, again, resume_from=tmp_path / RESUME_STATE)

    assert again.of_type("progress")[0].step == kept[-1] >= STEPS_PER_EPOCH
    assert_the_same_run(result, tmp_path, uninterrupted)


def test_the_state_is_kept_by_time_as_well_as_by_epoch(
    start: Any, make_observer: Any, tmp_path: Path
) -> None:
    by_epoch, by_time = make_observer(), make_observer()
    start(tmp_path / "epoch", by_epoch, {"epochs": 2})
    start(tmp_path / "time", by_time, {"epochs": 2}, checkpoint_seconds=0.0)

    kept = [
        [e.step for e in observer.of_type("checkpoint") if e.name == RESUME_STATE]
        for observer in (by_epoch, by_time)
    ]
    assert kept[0] == [STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH]
    assert set(kept[0]) < set(kept[1])


def test_a_run_that_goes_on_leaves_both_checkpoints_at_once(
    start: Any, make_observer: Any, tmp_path: Path
) -> None:
    start(tmp_path / "first", make_observer(wish="drain", at_step=STEPS_PER_EPOCH + 1))
    again = make_observer(wish="drain", at_step=-1)
    go_on = {"resume_from": tmp_path / "first" / RESUME_STATE}
    start(tmp_path / "second", again, **go_on)
    assert again.of_type("checkpoint") == []  # the wish came before anything was done

    later = make_observer(wish="drain", at_step=STEPS_PER_EPOCH + 2)
    start(tmp_path / "third", later, **go_on)
    saved = [(event.name, event.step) for event in later.of_type("checkpoint")][:2]
    assert saved == [("model.ckpt", STEPS_PER_EPOCH), ("last.ckpt", STEPS_PER_EPOCH + 1)]
    assert (tmp_path / "third" / "model.ckpt").exists()


def test_a_finished_run_is_not_trained_again(
    start: Any, make_observer: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    _, whole_dir = uninterrupted
    again = make_observer()

    result = start(tmp_path, again, resume_from=whole_dir / RESUME_STATE)

    assert result.step == 3 * STEPS_PER_EPOCH
    assert [event for event in again.of_type("progress") if event.step < result.step] == []
    ours, theirs = load_file(tmp_path / "model.safetensors"), load_file(whole_dir / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_state_of_another_spec_is_refused_before_anything_is_trained(
    start: Any, make_observer: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    _, whole_dir = uninterrupted
    observer = make_observer()

    with pytest.raises(CannotResume, match="another spec"):
        start(tmp_path, observer, {"epochs": 4}, resume_from=whole_dir / RESUME_STATE)

    assert observer.events == []


def test_a_killed_process_is_heeded_once(start: Any, make_observer: Any, tmp_path: Path) -> None:
    first, second = make_observer(wish="drain", at_step=1), make_observer()
    start(tmp_path / "first", first, memory_kills=1)
    result = start(tmp_path / "second", second, resume_from=tmp_path / "first" / RESUME_STATE, memory_kills=2)

    sizes = [
        (event.resolved_spec["batch_size"], event.resolved_spec["effective_batch_size"])
        for observer in (first, second)
        for event in observer.of_type("resolved")
    ]
    assert sizes == [(8, 32), (4, 32)]
    halvings = [a["effective"] for a in result.result["adjustments"] if a["field"] == "batch_size"]
    assert halvings == [8, 4]
    assert json.loads((tmp_path / "second" / "result.json").read_text())["steps"] == 3 * STEPS_PER_EPOCH


def test_a_state_is_as_it_was_after_a_run_has_gone_on_from_it(
    start: Any, make_observer: Any, tmp_path: Path
) -> None:
    start(tmp_path / "first", make_observer(wish="drain", at_step=3))
    before = load_file(tmp_path / "first" / RESUME_STATE)
    kept: list[TrainingState] = []

    class Watching(StateKeeper):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            kept.append(self.latest)  # type: ignore[arg-type] # it goes on from one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.recipe.StateKeeper", Watching)
        start(tmp_path / "second", make_observer(), resume_from=tmp_path / "first" / RESUME_STATE)

    [state] = kept
    for index, values in state.optimizer.items():
        for name, value in values.items():
            assert torch.equal(value, before[f"optimizer/{index}/{name}"])


def test_a_resumed_run_that_diverges_goes_back_to_its_best_weights(
    start: Any, make_observer: Any, tmp_path: Path
) -> None:
    start(tmp_path / "first", make_observer(wish="drain", at_step=STEPS_PER_EPOCH + 1))
    state = load_file(tmp_path / "first" / RESUME_STATE)
    best = {name.removeprefix("best/"): value for name, value in state.items() if name.startswith("best/")}

    keeper = StateKeeper(tmp_path / "x", dict, make_observer(), 60.0, _loaded(tmp_path / "first"))
    keeper.roll_back()

    assert keeper.latest is not None
    assert all(torch.equal(keeper.latest.weights[name], value) for name, value in best.items())
    assert keeper.latest.optimizer == {}


def _loaded(folder: Path) -> TrainingState:
    header = (folder / RESUME_STATE).read_bytes()
    length = int.from_bytes(header[:8], "little")
    metadata = json.loads(header[8 : 8 + length])["__metadata__"]["foretrain"]
    return load_state(folder / RESUME_STATE, json.loads(metadata)["identity"])
