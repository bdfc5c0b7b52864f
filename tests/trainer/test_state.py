from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from trainer.errors import CannotResume
from trainer.events import Adjustment
from trainer.state import Adaptation, Best, Position, TrainingState, load_state, own_copy, save_state

if TYPE_CHECKING:
    from pathlib import Path

OURS = {"spec_sha256": "a", "data_sha256": "b", "mapping_sha256": "c"}


def some_state() -> TrainingState:
    return TrainingState(
        position=Position(step=7, epoch=1, windows=96),
        weights={"layer.weight": torch.randn(3, 2)},
        best_weights={"layer.weight": torch.randn(3, 2)},
        optimizer={0: {"step": torch.tensor(7.0), "exp_avg": torch.randn(3, 2)}},
        random={"cpu": torch.get_rng_state()},
        best=Best(loss=0.1, losses=[0.04, 0.06], step=4, epoch=1, measured_step=4, stale_epochs=2),
        counters={"train_loss": 0.1 + 0.2},
        plateau={"best_loss": float("inf"), "stale_epochs": 0, "reduction": 0.5},
        scaler={},
        points=[(4, 1, "val_loss", 0.1), (5, 2, "train_loss", None)],
        seconds=12.5,
        adaptation=Adaptation(
            changes={"batch_size": 16},
            adjustments=[Adjustment(field="batch_size", requested=32, effective=16, reason="memory")],
            rate_cuts=1,
            memory_kills=2,
            lr_find={"rates": [0.1]},
        ),
    )


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = some_state()
    save_state(tmp_path / "state", state, OURS)

    again = load_state(tmp_path / "state", OURS)

    assert torch.equal(again.weights["layer.weight"], state.weights["layer.weight"])
    assert torch.equal(again.best_weights["layer.weight"], state.best_weights["layer.weight"])
    assert torch.equal(again.optimizer[0]["exp_avg"], state.optimizer[0]["exp_avg"])
    assert torch.equal(again.random["cpu"], state.random["cpu"])
    for name in ("position", "best", "counters", "plateau", "points", "seconds", "adaptation"):
        assert getattr(again, name) == getattr(state, name), name


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_state(path, some_state(), OURS)
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(CannotResume, match="damaged"):
        load_state(path, OURS)


@pytest.mark.parametrize(
    ("theirs", "said"), [({"spec_sha256": "x"}, "another spec"), ({"data_sha256": "x"}, "other data")]
)
def test_the_state_of_another_run_is_refused(tmp_path: Path, theirs: dict[str, str], said: str) -> None:
    save_state(tmp_path / "state", some_state(), OURS | theirs)

    with pytest.raises(CannotResume, match=said):
        load_state(tmp_path / "state", OURS)


def test_a_state_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.state.STATE_FORMAT", 99)
    save_state(tmp_path / "state", some_state(), OURS)
    monkeypatch.undo()

    with pytest.raises(CannotResume, match="another version"):
        load_state(tmp_path / "state", OURS)


def test_a_state_is_no_pickle(tmp_path: Path) -> None:
    save_state(tmp_path / "state", some_state(), OURS)
    content = (tmp_path / "state").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])

    assert set(json.loads(header.pop("__metadata__")["foretrain"])["identity"]) == set(OURS)
    assert all(set(entry) == {"dtype", "shape", "data_offsets"} for entry in header.values())


def test_a_copy_shares_nothing_with_the_network() -> None:
    linear: Any = torch.nn.Linear(2, 1)
    copy = own_copy(linear.state_dict())
    before = copy["weight"].clone()
    with torch.no_grad():
        linear.weight.add_(1.0)

    assert torch.equal(copy["weight"], before)
