"""Everything a run has to remember to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trainer.checkpoint import write_whole
from trainer.errors import CannotResume
from trainer.events import Adjustment

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.recipe import DatasetFile
    from trainer.spec import TrainingSpec

STATE_FORMAT = 3  # 1 held the optimizer's state per parameter, 2 in another order
_HEADER = "foretrain"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Position:
    """Where in the data training stands: `epoch` from 0, and the windows of it that are done."""

    step: int = 0  # optimizer steps in all
    epoch: int = 0
    windows: int = 0


@dataclass
class Best:
    """The best validation so far, and how many epochs have passed since without a better one."""

    loss: float | None = None
    losses: list[float] = field(default_factory=list)
    step: int = 0
    epoch: int = 0
    measured_step: int = -1
    stale_epochs: int = 0


@dataclass
class Adaptation:
    """How the run departs from the spec that was asked for, found out on the way.

    `changes` are the fields that run otherwise, each with its adjustment. `memory_kills` counts how often a
    process of this run was killed for memory and that was heeded.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    adjustments: list[Adjustment] = field(default_factory=list)
    rate_cuts: int = 0
    memory_kills: int = 0
    lr_find: dict[str, Any] | None = None  # content of lr_find.json, where the rate was searched for


@dataclass(frozen=True)
class TrainingState:
    """A moment between two optimizer steps. Tensors lie on the CPU and belong to the state alone."""

    position: Position
    weights: Weights
    best_weights: Weights
    optimizer: dict[int, Weights]  # as in torch's Optimizer.state_dict()["state"]
    random: Weights  # states of torch's generators: "cpu", and "cuda" on a GPU
    best: Best
    counters: dict[str, float]  # see Tally.kept
    plateau: dict[str, float]  # see LearningRate.memory
    scaler: dict[str, float]  # of the gradients under 16-mixed, else empty
    points: list[tuple[int, int, str, float | None]]  # metrics reported so far
    seconds: float  # of training
    adaptation: Adaptation


def identity_of(spec: TrainingSpec, data: DatasetFile) -> dict[str, str]:
    """What has to be the same for a state to be of use: the spec that was asked for, and the data.

    Not the number of devices, which changes nothing of what is trained.
    """
    wanted = spec.model_copy(update={"devices": 1})
    asked = json.dumps(wanted.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    read_as = data.mapping.model_dump_json() + data.schema.model_dump_json()
    return {
        "spec_sha256": hashlib.sha256(asked.encode()).hexdigest(),
        "data_sha256": data.sha256,
        "mapping_sha256": hashlib.sha256(read_as.encode()).hexdigest(),
    }


def save_state(path: Path, state: TrainingState, identity: dict[str, str]) -> None:
    """Write a whole file, renamed into place: tensors and JSON, no pickle."""
    tensors = {f"weights/{name}": weight for name, weight in state.weights.items()}
    tensors |= {f"best/{name}": weight for name, weight in state.best_weights.items()}
    tensors |= {f"random/{name}": generator for name, generator in state.random.items()}
    for index, values in state.optimizer.items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
    rest = {
        "format": STATE_FORMAT,
        "identity": identity,
        "position": asdict(state.position),
        "best": asdict(state.best),
        "counters": state.counters,
        "plateau": state.plateau,
        "scaler": state.scaler,
        "points": state.points,
        "seconds": state.seconds,
        "adaptation": asdict(state.adaptation)
        | {
            "adjustments": [adjustment.model_dump(mode="json") for adjustment in state.adaptation.adjustments]
        },
    }
    write_whole(path, save(tensors, metadata={_HEADER: json.dumps(rest)}))


def load_state(path: Path, identity: dict[str, str]) -> TrainingState:
    """Read a state back. Raises CannotResume if the file is damaged, or is another run's."""
    try:
        with safe_open(str(path), framework="pt") as file:
            rest = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        _check(rest, identity, path)
        return _state(rest, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CannotResume(f"{path.name} is damaged, training cannot go on from it: {error}") from error


def _state(rest: dict[str, Any], tensors: Weights) -> TrainingState:
    return TrainingState(
        position=Position(**rest["position"]),
        weights=_part(tensors, "weights/"),
        best_weights=_part(tensors, "best/"),
        optimizer=_optimizer(_part(tensors, "optimizer/")),
        random=_part(tensors, "random/"),
        best=Best(**rest["best"]),
        counters=rest["counters"],
        plateau=rest["plateau"],
        scaler=rest["scaler"],
        points=[(step, epoch, name, value) for step, epoch, name, value in rest["points"]],
        seconds=rest["seconds"],
        adaptation=_adaptation(rest["adaptation"]),
    )


def _adaptation(content: dict[str, Any]) -> Adaptation:
    adjustments = [Adjustment(**adjustment) for adjustment in content["adjustments"]]
    return Adaptation(**(content | {"adjustments": adjustments}))


def _check(rest: dict[str, Any], identity: dict[str, str], path: Path) -> None:
    if rest.get("format") != STATE_FORMAT:
        raise CannotResume(
            f"{path.name} was written by another version (format {rest.get('format')}, here {STATE_FORMAT}); "
            "train afresh"
        )
    for name, what in (
        ("spec_sha256", "another spec"),
        ("data_sha256", "other data"),
        ("mapping_sha256", "another way of reading the data"),
    ):
        if rest["identity"].get(name) != identity[name]:
            raise CannotResume(
                f"{path.name} belongs to a run with {what}; give what it was started with, or train afresh"
            )


def _part(tensors: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer(tensors: Weights) -> dict[int, Weights]:
    state: dict[int, Weights] = {}
    for name, value in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    return state


def own_copy(tensors: dict[str, Tensor]) -> Weights:
    """On the CPU, sharing nothing: pytorch-forecasting registers some modules twice."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def random_state(device: torch.device) -> Weights:
    """The state of every generator that training draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Weights, device: torch.device) -> None:
    """Put the generators back; one that the state does not know goes on as it is."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
