"""The feature matrix: each feature proven in turn, whatever became of the one before."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from foretrain.doctor.features import FEATURES
from foretrain.doctor.lab import Lab, NotPossibleHere, NotProven
from foretrain.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from foretrain.doctor.feature import Feature
    from foretrain.doctor.lab import Run

Status = Literal["ok", "failed", "not here"]


@dataclass(frozen=True)
class Row:
    """One feature, and what was seen of it; `run` is None where nothing was trained to the end."""

    feature: Feature
    status: Status
    seen: str
    seconds: float  # of the whole row, with the runs that it was held against
    run: Run | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; sizes in bytes, None for what could not be measured."""
        run = self.run
        return {
            "feature": self.feature.name,
            "part": self.feature.part,
            "asked": self.feature.asked,
            "status": self.status,
            "seen": self.seen,
            "row_seconds": self.seconds,
            "train_seconds": None if run is None else run.seconds,
            "windows_per_second": None if run is None else run.windows_per_second,
            "peak_bytes_above_imports": None if run is None else run.peak_bytes,
            "peak_gpu_bytes": None if run is None else run.peak_gpu_bytes,
            "val_loss": None if run is None else run.val_loss,
        }


@dataclass(frozen=True)
class Matrix:
    """All rows, and under which circumstances they came about."""

    rows: list[Row]
    seconds: float
    load_average: tuple[float, float]  # of the last minute, before and after
    import_bytes: int | None
    hardware: dict[str, Any]

    @property
    def failed(self) -> list[str]:
        return [row.feature.name for row in self.rows if row.status == "failed"]

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "load_average_before_and_after": self.load_average,
            "import_bytes": self.import_bytes,
            "hardware": self.hardware,
            "rows": [row.to_json() for row in self.rows],
            "failed": self.failed,
        }


def chosen_features(names: Sequence[str]) -> list[Feature]:
    """Those with these names, in the order of the matrix; all if none is named. Raises Refusal."""
    unknown = set(names) - {feature.name for feature in FEATURES}
    if unknown:
        there = ", ".join(feature.name for feature in FEATURES)
        raise Refusal(f"there is no feature {', '.join(sorted(unknown))}; there are {there}")
    return [feature for feature in FEATURES if not names or feature.name in names]


def prove(
    features: Sequence[Feature],
    folder: Path,
    started: Callable[[str], None],
    done: Callable[[Row], None],
) -> Matrix:
    """Prove each of them; runs are left in `folder`. Tells which one it is at, and how it ended."""
    started_at, load = time.monotonic(), _load()
    started("loading torch")
    lab = Lab(folder)
    started("a first step")
    lab.warm_up()
    rows = []
    for feature in features:
        started(feature.name)
        rows.append(_row(feature, lab))
        done(rows[-1])
    return Matrix(
        rows=rows,
        seconds=time.monotonic() - started_at,
        load_average=(load, _load()),
        import_bytes=lab.import_bytes,
        hardware=lab.hardware.describe(),
    )


def _row(feature: Feature, lab: Lab) -> Row:
    started_at = time.monotonic()
    status: Status = "failed"
    run = None
    try:
        proof = feature.prove(lab)
    except NotProven as error:
        seen = str(error)
    except NotPossibleHere as error:
        status, seen = "not here", str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the row has failed and the next one follows
        seen = f"{type(error).__name__}: {error}"
    else:
        status, seen, run = "ok", proof.seen, proof.run
    return Row(feature, status, seen, time.monotonic() - started_at, run)


@contextmanager
def folder_for_runs(keep: Path | None) -> Iterator[Path]:
    """`keep`, or a temporary folder that is removed afterwards. Raises Refusal if `keep` holds anything."""
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise Refusal(f"{keep} is there already and not empty; name another folder with --keep")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="foretrain-doctor-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
