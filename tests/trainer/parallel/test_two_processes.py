"""Two processes train what one would: with dropout off the losses differ by float32's rounding alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from trainer.errors import RankLost
from trainer.keeping import RESUME_STATE
from trainer.lr_find.range_test import find_learning_rate
from trainer.parallel.follower import OUT_OF_MEMORY
from trainer.parallel.ranks import ALONE, AgreedObserver
from trainer.prepare import prepare
from trainer.recipe import train
from trainer.state import identity_of, load_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("followers_find_the_package")]

# Relative; a sum of float32 in another order.
LOSS_TOLERANCE = 1e-5
# Not a multiple of anything: the last batch of an epoch has one window, and so one rank has none.
SPEC: dict[str, Any] = {
    "target_metrics": ["cpu_percent", "memory_percent"],
    "missing_policy": "mask",
    "dropout": 0.0,
    "epochs": 3,
    "batch_size": 12,
    "max_train_windows": 37,
    "accumulate_grad_batches": 2,
    "lr_schedule": "plateau",
    "log_every_n_steps": 1,
}
STEPS_PER_EPOCH = 2
# These differ between equal runs.
MEASURED = {"windows_per_second", "memory_bytes"}
DRAINED_AT = 2 * STEPS_PER_EPOCH + 1


@pytest.fixture(scope="module")
def data(make_dataset: Any, make_series: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small fleet with gaps."""
    series = make_series([60, 50], ("cpu_percent", "memory_percent"))
    series.observed["cpu_percent"][10:17] = False
    series.observed["memory_percent"][70:74] = False
    return make_dataset(series, tmp_path_factory.mktemp("data") / "data.parquet")


@pytest.fixture(scope="module")
def start(data: Any, make_spec: Any, plain_cpu: Any) -> Callable[..., Any]:
    """Train into a folder; `changes` are the spec's, keyword arguments those of `train`."""

    def run(out_dir: Path, observer: Any, changes: dict[str, Any] | None = None, **arguments: Any) -> Any:
        spec = make_spec(**(SPEC | (changes or {})))
        return train(spec, data, out_dir, observer, hardware=plain_cpu, **arguments)

    return run


@pytest.fixture(scope="module")
def both(start: Any, make_observer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of two processes that searches its rate first, and is drained in its last epoch."""
    out_dir = tmp_path_factory.mktemp("both")
    observer = make_observer(wish="drain", at_step=DRAINED_AT)
    return start(out_dir, observer, {"devices": 2, "auto_lr_find": True}), observer, out_dir


@pytest.fixture(scope="module")
def alone(start: Any, make_observer: Any, both: Any) -> Any:
    """The same run of one process, at the rate that was found."""
    rate = both[1].of_type("resolved")[-1].resolved_spec["learning_rate"]
    out_dir, observer = both[2].with_name("alone"), make_observer()
    return start(out_dir, observer, {"learning_rate": rate}).result, observer


def metrics(observer: Any) -> list[tuple[int, dict[str, float]]]:
    return [
        (event.step, {name: value for name, value in event.values.items() if name not in MEASURED})
        for event in observer.of_type("metrics")
    ]


def test_every_loss_is_that_of_one_process(both: Any, alone: Any) -> None:
    ours, theirs = metrics(both[1]), metrics(alone[1])

    assert (ours[-1][0], theirs[-1][0]) == (DRAINED_AT, 3 * STEPS_PER_EPOCH)
    for (step, values), (expected_step, expected) in zip(ours, theirs, strict=False):
        assert step == expected_step
        assert values == pytest.approx(expected, rel=LOSS_TOLERANCE), step


def test_one_process_goes_on_where_two_were_drained(
    both: Any, alone: Any, start: Any, make_observer: Any, tmp_path: Path
) -> None:
    stopped, _, out_dir = both
    assert (stopped.wish, stopped.step) == ("drain", DRAINED_AT)

    state = out_dir / RESUME_STATE
    result = start(tmp_path, make_observer(), {"auto_lr_find": True}, resume_from=state).result

    assert result["steps"] == 3 * STEPS_PER_EPOCH
    for name in ("train_loss", "val_loss"):
        ours, theirs = (dict(run["loss_history"][name]) for run in (result, alone[0]))
        assert ours == pytest.approx(theirs, rel=LOSS_TOLERANCE)
    assert result["best"]["val_loss"] == pytest.approx(alone[0]["best"]["val_loss"], rel=LOSS_TOLERANCE)


def test_the_rate_is_searched_on_the_same_losses(
    both: Any, data: Any, make_spec: Any, plain_cpu: Any
) -> None:
    """Up to where training is chaotic, and a last digit becomes a first one."""
    state = load_state(both[2] / RESUME_STATE, identity_of(make_spec(**SPEC, auto_lr_find=True), data))
    assert state.adaptation.lr_find is not None
    run = prepare(make_spec(**SPEC), data, plain_cpu)
    found = find_learning_rate(run, AgreedObserver(None, ALONE))

    assert state.adaptation.lr_find["losses"][:70] == pytest.approx(found.losses[:70], rel=LOSS_TOLERANCE)


def test_the_leader_alone_reports_and_writes(both: Any) -> None:
    _, observer, out_dir = both

    assert [e.phase for e in observer.of_type("phase")] == ["preparing", "lr_find", "training"]
    assert observer.of_type("resolved")[0].resolved_spec["devices"] == 2
    train_steps = [step for step, values in metrics(observer) if "train_loss" in values]
    assert train_steps == list(range(1, DRAINED_AT + 1))
    left = {path.name for path in out_dir.iterdir()}
    assert left == {"last.ckpt", "model.ckpt", RESUME_STATE, "tensorboard"}
    assert len(list((out_dir / "tensorboard").iterdir())) == 1


@pytest.fixture
def followers(tmp_path: Path) -> Iterator[Path]:
    """The first one has no memory to work with. The others leave their process id in the folder."""
    here = tmp_path / "followers"
    here.mkdir()
    script = dedent("""
        import os, pathlib, runpy
        here = pathlib.Path({here!r})
        try:
            (here / "first").touch(exist_ok=False)
        except FileExistsError:
            (here / "pid").write_text(str(os.getpid()))
        else:
            os._exit({exit_code})
        runpy.run_module("trainer.parallel.follower", run_name="__main__")
    """).format(here=str(here), exit_code=OUT_OF_MEMORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.parallel.crew.FOLLOWER", (sys.executable, "-P", "-c", script))
        yield here


def test_memory_that_fails_one_rank_halves_the_batch_and_one_that_is_killed_ends_all_within_seconds(
    start: Any, make_observer: Any, tmp_path: Path, followers: Path
) -> None:
    killed_at: list[float] = []

    class Killing(make_observer):  # type: ignore[misc] # a fixture
        def report(self, event: Any) -> None:
            super().report(event)
            if event.type == "metrics" and not killed_at:
                killed_at.append(time.monotonic())
                os.kill(int((followers / "pid").read_text()), signal.SIGKILL)

    observer = Killing()
    with pytest.raises(RankLost) as lost:
        start(tmp_path / "out", observer, {"devices": 2, "epochs": 1000, "early_stopping_patience": 0})

    halved = {a.field: a.effective for a in observer.of_type("resolved")[-1].adjustments}
    assert (halved["batch_size"], halved["accumulate_grad_batches"]) == (6, 4)
    assert lost.value.return_code == -signal.SIGKILL
    assert time.monotonic() - killed_at[0] < 10
    assert not Path(f"/proc/{(followers / 'pid').read_text()}").exists()
    # What the killed one had for files is gone with the crew's.
    assert not list((tmp_path / "out").glob(".ranks-*"))
