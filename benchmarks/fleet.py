"""The data of a benchmark: servers of equal length without gaps, some trained on, some never seen.

The cuts are those of `trainer/split.py`: of each series the last `test` steps are the test tail, those before
it the validation tail. A window belongs to the part that holds its whole horizon.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Part = Literal["train", "validation", "test"]
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


@dataclass(frozen=True)
class Fleet:
    """The first `seen` servers are trained on, the others are new."""

    servers: tuple[str, ...]
    seen: int
    targets: tuple[str, ...]
    times: npt.NDArray[np.datetime64]  # (servers, steps) UTC; each server may have a day of its own
    table: npt.NDArray[np.float32]  # (servers, steps, targets)
    encoder_length: int
    horizon: int
    validation_steps: int
    test_steps: int

    @property
    def steps(self) -> int:
        return int(self.times.shape[1])

    @property
    def validation_end(self) -> int:
        return self.steps - self.test_steps

    @property
    def train_end(self) -> int:
        return self.validation_end - self.validation_steps

    def origins(self, part: Part) -> npt.NDArray[np.int64]:
        """First forecast step of every window of the part, at stride 1."""
        first, end = {
            "train": (self.encoder_length, self.train_end),
            "validation": (self.train_end, self.validation_end),
            "test": (self.validation_end, self.steps),
        }[part]
        return np.arange(first, end - self.horizon + 1)

    @property
    def train_windows(self) -> int:
        return self.seen * len(self.origins("train"))

    def of(self, group: Literal["seen", "new"]) -> slice:
        """Places of the group's servers."""
        return slice(0, self.seen) if group == "seen" else slice(self.seen, None)

    def actual(self, group: Literal["seen", "new"], part: Part) -> npt.NDArray[np.float64]:
        """What happened, (servers, origins, horizon, targets)."""
        steps = self.origins(part)[:, None] + np.arange(self.horizon)
        return self.table[self.of(group)][:, steps].astype(np.float64)

    def frame(self, group: Literal["seen", "new"]) -> pd.DataFrame:
        """Long: server, time_idx, timestamp and a column per target."""
        names, values = self.servers[self.of(group)], self.table[self.of(group)]
        frame = pd.DataFrame(
            {
                "server": np.repeat(names, self.steps),
                "time_idx": np.tile(np.arange(self.steps), len(names)),
                "timestamp": self.times[self.of(group)].reshape(-1),
            }
        )
        for index, target in enumerate(self.targets):
            frame[target] = values[:, :, index].reshape(-1)
        return frame

    def sha256(self) -> str:
        """Of everything in it."""
        words = (self.servers, self.seen, self.targets, self._cuts())
        digest = hashlib.sha256(repr(words).encode())
        digest.update(self.times.astype(np.int64).tobytes())
        digest.update(np.ascontiguousarray(self.table).tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """For a program in another virtual environment; `load_fleet` reads it back."""
        np.savez(
            path,
            servers=np.array(self.servers),
            seen=self.seen,
            targets=np.array(self.targets),
            times=self.times,
            table=self.table,
            cuts=np.array(self._cuts()),
        )

    def _cuts(self) -> tuple[int, int, int, int]:
        return self.encoder_length, self.horizon, self.validation_steps, self.test_steps


def load_fleet(path: Path) -> Fleet:
    """What `Fleet.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return Fleet(
            tuple(file["servers"].tolist()),
            int(file["seen"]),
            tuple(file["targets"].tolist()),
            file["times"],
            file["table"],
            *(int(cut) for cut in file["cuts"]),
        )


def read_fleet(
    path: Path,
    targets: Sequence[str],
    *,
    first: int = 0,
    servers: int = 200,
    new: int = 200,
    encoder_length: int = 48,
    horizon: int = 12,
    validation: float = 0.2,
    test: float = 0.1,
) -> Fleet:
    """Of the server names in sorted order, leave out `first`, train on `servers`, keep `new` unseen.

    Raises ValueError where the file has fewer, and where they differ in length or have gaps.
    """
    frame = pd.read_parquet(path, columns=["server", "timestamp", *targets])
    names = sorted(frame["server"].unique())[first : first + servers + new]
    if len(names) < servers + new:
        raise ValueError(f"{path.name} has no {servers + new} servers from number {first} on")
    frame = frame[frame["server"].isin(names)].sort_values(["server", "timestamp"])
    steps = len(frame) // len(names)
    if len(frame) != len(names) * steps or (frame["server"] != np.repeat(names, steps)).any():
        raise ValueError(f"{path.name}: the servers differ in length")
    times = frame["timestamp"].dt.tz_localize(None).to_numpy("datetime64[us]").reshape(len(names), steps)
    if len(np.unique(np.diff(times))) != 1 or frame[list(targets)].isna().any(axis=None):
        raise ValueError(f"{path.name}: there are gaps")
    return Fleet(
        servers=tuple(names),
        seen=servers,
        targets=tuple(targets),
        times=times,
        table=frame[list(targets)].to_numpy(np.float32).reshape(*times.shape, len(targets)),
        encoder_length=encoder_length,
        horizon=horizon,
        validation_steps=round(steps * validation),
        test_steps=round(steps * test),
    )
